package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/sovereignmesh/meshkey/internal/netns"
)

// built says why a program of bench/peers is not there.
func built(r *rig, programs ...string) string {
	for _, name := range programs {
		if why, ok := r.plan.Lacks[name]; ok {
			return why
		}
	}
	return ""
}

// newLibp2p is go-libp2p with Noise and yamux, a stream per connection.
func newLibp2p() contestant {
	const near = "127.0.0.1:7208"
	var address string
	return &pair{
		label: nameLibp2p, text: "go-libp2p, noise and yamux", addr: near,
		lacks: func(r *rig) string { return built(r, "libp2p") },
		server: func(r *rig) (*process, error) {
			p, err := r.spawn("libp2p-server", r.server.Command(r.plan.program("libp2p"), "serve", "/ip4/"+serverIP+"/tcp/7108", target))
			if err != nil {
				return nil, err
			}
			address, err = p.line()
			return p, err
		},
		client: func(r *rig) (*process, error) {
			return r.spawn("libp2p-client", r.client.Command(r.plan.program("libp2p"), "connect", address, near))
		},
	}
}

const tunDevice = "/dev/net/tun"

// noTun says why there is no tun device: it takes the file, and the right to open it, which namespaces do not give.
func noTun(*rig) string {
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Sprintf("needs a tun device: %v", err)
	}
	f.Close()
	return ""
}

func tunOr(programs ...string) func(*rig) string {
	return func(r *rig) string {
		if why := built(r, programs...); why != "" {
			return why
		}
		return noTun(r)
	}
}

// newWireguard is wireguard-go on a tun device on each side; the load connects through the tunnel to the server itself.
func newWireguard() contestant {
	const port, near, far = "51820", "10.78.0.1", "10.78.0.2"
	keys := map[string][2]string{} // private and public, by side
	start := func(r *rig, h *netns.Host, side, other, ip, otherIP, endpoint string) (*process, error) {
		cmd := h.Command(r.plan.program("wireguard"), "up", "wg0")
		conf := "private_key=" + keys[side][0] + "\nlisten_port=" + port + "\npublic_key=" + keys[other][1] + "\nallowed_ip=" + otherIP + "/32\n"
		if endpoint != "" {
			conf += "endpoint=" + endpoint + "\n"
		}
		cmd.Stdin = strings.NewReader(conf)
		p, err := r.spawn("wireguard-"+side, cmd)
		if err != nil {
			return nil, err
		}
		if _, err := p.line(); err != nil {
			return p, err
		}
		if _, err := output(h.Command("ip", "addr", "add", ip+"/24", "dev", "wg0")); err != nil {
			return p, err
		}
		_, err = output(h.Command("ip", "link", "set", "wg0", "up"))
		return p, err
	}
	return &pair{
		label: nameWireguard, text: "wireguard-go", addr: far + ":" + targetPort,
		lacks: tunOr("wireguard"),
		prepare: func(r *rig) error {
			for _, side := range []string{"client", "server"} {
				out, err := output(exec.Command(r.plan.program("wireguard"), "genkey"))
				if err != nil {
					return err
				}
				private, public, _ := strings.Cut(strings.TrimSpace(out), " ")
				keys[side] = [2]string{private, public}
			}
			return nil
		},
		server: func(r *rig) (*process, error) {
			return start(r, r.server, "server", "client", far, near, "")
		},
		client: func(r *rig) (*process, error) {
			return start(r, r.client, "client", "server", near, far, serverIP+":"+port)
		},
	}
}

// newNebula is nebula on a tun device on each side, the server being the lighthouse.
func newNebula() contestant {
	const near, far = "10.79.0.1", "10.79.0.2"
	file := func(r *rig, name string) string { return r.path("nebula-" + name) }
	start := func(r *rig, h *netns.Host, side string) (*process, error) {
		return r.spawn("nebula-"+side, h.Command(r.plan.program("nebula"), "-config", file(r, side+".yml")))
	}
	return &pair{
		label: nameNebula, text: "nebula", addr: far + ":" + targetPort,
		lacks: tunOr("nebula", "nebula-cert"),
		prepare: func(r *rig) error {
			cert := r.plan.program("nebula-cert")
			if _, err := output(exec.Command(cert, "ca", "-name", "bench", "-out-crt", file(r, "ca.crt"), "-out-key", file(r, "ca.key"))); err != nil {
				return err
			}
			for side, ip := range map[string]string{"client": near, "server": far} {
				if _, err := output(exec.Command(cert, "sign", "-name", side, "-ip", ip+"/24", "-ca-crt", file(r, "ca.crt"), "-ca-key", file(r, "ca.key"),
					"-out-crt", file(r, side+".crt"), "-out-key", file(r, side+".key"))); err != nil {
					return err
				}
				config := fmt.Sprintf(`pki: {ca: %q, cert: %q, key: %q}
static_host_map: {%q: [%q]}
lighthouse: {am_lighthouse: %v, interval: 60, hosts: [%s]}
listen: {host: 0.0.0.0, port: 4242}
tun: {dev: nebula1, mtu: 1300}
logging: {level: error, format: text}
firewall:
  outbound: [{port: any, proto: any, host: any}]
  inbound: [{port: any, proto: any, host: any}]
`, file(r, "ca.crt"), file(r, side+".crt"), file(r, side+".key"), far, serverIP+":4242", side == "server",
					map[string]string{"client": fmt.Sprintf("%q", far)}[side])
				if err := os.WriteFile(file(r, side+".yml"), []byte(config), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		server: func(r *rig) (*process, error) { return start(r, r.server, "server") },
		client: func(r *rig) (*process, error) { return start(r, r.client, "client") },
	}
}

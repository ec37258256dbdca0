package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// sshUser is whom sshd believes to be. As root it would want to become somebody else for each session, and inside there is nobody else;
// in a user namespace of its own it is this one, whom every Debian has, and serves only itself.
const (
	sshUser = "daemon"
	sshID   = "1"
)

// newSSH is `ssh -L` with one cipher.
func newSSH(name, cipher, farPort, nearPort string) contestant {
	dir := func(r *rig, file string) string { return r.path(name + "-" + file) }
	near := "127.0.0.1:" + nearPort
	return &pair{
		label: name, text: "ssh -L, " + strings.TrimSuffix(cipher, "@openssh.com"), addr: near,
		lacks: func(*rig) string {
			return lacking([2]string{"sshd", "openssh-server"}, [2]string{"ssh", "openssh-client"}, [2]string{"ssh-keygen", "openssh-client"})
		},
		prepare: func(r *rig) error {
			for _, key := range []string{"host", "user"} {
				if _, err := output(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir(r, key))); err != nil {
					return err
				}
			}
			host, err := os.ReadFile(dir(r, "host.pub"))
			if err != nil {
				return err
			}
			known := fmt.Sprintf("[%s]:%s %s", serverIP, farPort, host)
			config := strings.Join([]string{
				"Port " + farPort, "ListenAddress " + serverIP, "HostKey " + dir(r, "host"), "AuthorizedKeysFile " + dir(r, "user.pub"),
				"StrictModes no", "UsePAM no", "PidFile none", "PasswordAuthentication no", "AllowTcpForwarding yes", "LogLevel ERROR",
				"Ciphers " + cipher, "",
			}, "\n")
			if err := os.WriteFile(dir(r, "known"), []byte(known), 0o600); err != nil {
				return err
			}
			return os.WriteFile(dir(r, "sshd"), []byte(config), 0o600)
		},
		server: func(r *rig) (*process, error) {
			sshd, err := exec.LookPath("sshd") // it insists on being started by its full path
			if err != nil {
				return nil, err
			}
			p, err := r.spawn(name+"-server", r.server.Command("unshare", "--user", "--map-user="+sshID, "--map-group="+sshID,
				sshd, "-D", "-e", "-f", dir(r, "sshd")))
			if err != nil {
				return nil, err
			}
			return p, r.listening(p, serverIP+":"+farPort)
		},
		client: func(r *rig) (*process, error) {
			return r.spawn(name+"-client", r.client.Command("ssh", "-F", "none", "-N", "-n", "-c", cipher, "-i", dir(r, "user"), "-p", farPort,
				"-o", "UserKnownHostsFile="+dir(r, "known"), "-o", "StrictHostKeyChecking=yes", "-o", "ExitOnForwardFailure=yes",
				"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-L", near+":"+target, sshUser+"@"+serverIP))
		},
	}
}

// listening waits until a program on the server accepts connections.
func (r *rig) listening(p *process, addr string) (err error) {
	for end := time.Now().Add(startTime); time.Now().Before(end); {
		r.server.Do(func() {
			var c net.Conn
			if c, err = net.DialTimeout("tcp", addr, time.Second); err == nil {
				c.Close()
			}
		})
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.name, p.tail())
		case <-time.After(pollStep):
		}
	}
	return fmt.Errorf("%s does not listen: %w: %s", p.name, err, p.tail())
}

// newStunnel is stunnel with TLS 1.3, whose client pins the server's certificate.
func newStunnel() contestant {
	const far, near = serverIP + ":7105", "127.0.0.1:7205"
	program := func() string {
		for _, n := range []string{"stunnel", "stunnel4"} {
			if p, err := exec.LookPath(n); err == nil {
				return p
			}
		}
		return "stunnel"
	}
	const common = "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
	return &pair{
		label: nameStunnel, text: "stunnel, TLS 1.3", addr: near,
		lacks: func(*rig) string { return lacking([2]string{program(), "stunnel4"}) },
		prepare: func(r *rig) error {
			pem := r.path("stunnel.pem")
			if err := selfSigned(pem); err != nil {
				return err
			}
			server := common + "[bench]\naccept = " + far + "\nconnect = " + target + "\ncert = " + pem + "\nsslVersionMin = TLSv1.3\n"
			client := common + "[bench]\nclient = yes\naccept = " + near + "\nconnect = " + far + "\nCAfile = " + pem +
				"\nverifyPeer = yes\nsslVersionMin = TLSv1.3\n"
			if err := os.WriteFile(r.path("stunnel-server.conf"), []byte(server), 0o600); err != nil {
				return err
			}
			return os.WriteFile(r.path("stunnel-client.conf"), []byte(client), 0o600)
		},
		server: func(r *rig) (*process, error) {
			p, err := r.spawn("stunnel-server", r.server.Command(program(), r.path("stunnel-server.conf")))
			if err != nil {
				return nil, err
			}
			return p, r.listening(p, far)
		},
		client: func(r *rig) (*process, error) {
			return r.spawn("stunnel-client", r.client.Command(program(), r.path("stunnel-client.conf")))
		},
	}
}

// selfSigned writes a key and a certificate of it for the server.
func selfSigned(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.ParseIP(serverIP)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	return os.WriteFile(name, b, 0o600)
}

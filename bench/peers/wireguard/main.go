// Command wireguard runs a wireguard-go device on a tun interface, for the benchmark to compare with:
//
//	wireguard genkey        prints a private and its public key, in hexadecimal
//	wireguard up NAME       makes the interface NAME, configures the device with the text on standard input, in the language of its
//	                        configuration protocol, brings it up, prints "up", and runs until it is killed
//
// It is what the program of the module does, without its need for a folder of sockets and for the tool that writes to them.
package main

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"io"
	"os"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "genkey":
		err = genkey()
	case len(os.Args) == 3 && os.Args[1] == "up":
		err = up(os.Args[2])
	default:
		err = fmt.Errorf("usage: wireguard genkey | wireguard up NAME")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func genkey() error {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	fmt.Printf("%x %x\n", k.Bytes(), k.PublicKey().Bytes())
	return nil
}

func up(name string) error {
	conf, err := io.ReadAll(bufio.NewReader(os.Stdin))
	if err != nil {
		return err
	}
	t, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return err
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, name+": "))
	defer d.Close()
	if err := d.IpcSet(string(conf)); err != nil {
		return err
	}
	if err := d.Up(); err != nil {
		return err
	}
	fmt.Println("up")
	<-d.Wait()
	return nil
}

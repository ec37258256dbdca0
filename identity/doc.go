// Package identity holds the signed statements about nodes: certificates, bindings, invites and certificate requests.
package identity

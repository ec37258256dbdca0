package control

import "time"

const (
	// MaxAuditPage bounds one page of the audit log: 1,000 records are ~400 KB of JSON, and the client asks again for more.
	MaxAuditPage = 1000
	// MaxWait bounds how long a request may wait for acknowledgements or readiness.
	MaxWait = 5 * time.Minute
)

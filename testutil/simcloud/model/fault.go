package model

import (
	"net/http"
	"time"
)

// A Fault breaks one request. Its parts are done in the order of its fields; the
// zero fault breaks nothing.
type Fault struct {
	// Wait is real time that passes before anything is done. The request is carried
	// out even if the client has given up meanwhile.
	Wait time.Duration
	// Late, where it is not zero, carries the request out when the cloud's own time
	// has advanced by it, whatever becomes of the client.
	Late time.Duration
	// Hang answers nothing until the client gives up, and does nothing.
	Hang bool
	// Refuse carries nothing out; otherwise the request is carried out, and what
	// follows only spoils the answer.
	Refuse bool

	// Cut closes the connection instead of answering.
	Cut bool
	// Drop leaves the last items of a list out of a 200 answer, and its links.
	Drop int
	// Truncate ends a JSON body half way, as if it were whole.
	Truncate bool
	// Status, Header and Body replace those of the answer, each where it is not
	// zero. A Body is sent with the Content-Type of Header, JSON if it has none.
	Status int
	Header http.Header
	Body   string
	// Empty answers without a body.
	Empty bool
}

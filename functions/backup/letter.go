package backup

import (
	"fmt"
	"time"
)

// A Person is somebody to be told.
type Person struct {
	// Name may be "".
	Name string `json:"n,omitempty"`
	// Address is an e-mail address.
	Address string `json:"a"`
}

// A Letter is one mail to be sent, ready.
type Letter struct {
	// Key names it for ever: the same letter sent again has the same key. It is the
	// digest's ID, and the address where every person gets a letter of their own.
	Key string
	// At is its date: the end of the digest's period.
	At time.Time
	// To are the people; several are told as blind copies.
	To []Person
	// Subject is one line; HTML and Text say the same.
	Subject, HTML, Text string
	// List is what its List-Id is made of: the project's id.
	List string
	// Tries counts how often it was tried in vain.
	Tries int
}

// A MailError is a letter that did not reach everybody.
type MailError struct {
	// Permanent says that sending the same again cannot help.
	Permanent bool
	// Doubt says that it may have been taken all the same: it may go out again only in
	// the very same words.
	Doubt bool
	// Sent says that it reached some: those in Told. Refused are the addresses refused
	// for good, with what was said.
	Sent    bool
	Told    []string
	Refused map[string]string
	Err     error
}

func (e *MailError) Error() string { return fmt.Sprintf("mail: %v", e.Err) }

func (e *MailError) Unwrap() error { return e.Err }

package world

import (
	"context"
	"slices"
	"sync"
	"time"

	"staffeln/functions/backup"
)

// A Mailbox takes the letters of a world. Its methods may be called from any
// goroutine.
type Mailbox struct {
	mu      sync.Mutex
	handed  []Handed
	trouble func(l backup.Letter) Trouble
}

// Handed is a letter as it was handed over, for one of its people.
type Handed struct {
	backup.Letter
	// To is whose it is, and At when it came.
	To string
	At time.Time
}

// Trouble is what becomes of a letter; nothing, and it arrives.
type Trouble struct {
	// Err is what the sender is told, usually a [*backup.MailError].
	Err error
	// Arrives says that the letter is taken all the same, as when only the answer is
	// lost.
	Arrives bool
}

// SetTrouble sets what is asked about every letter; nil for no trouble at all.
func (m *Mailbox) SetTrouble(trouble func(l backup.Letter) Trouble) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = trouble
}

// Take takes a letter at a moment, or says what its trouble is.
func (m *Mailbox) Take(l backup.Letter, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var t Trouble
	if m.trouble != nil {
		t = m.trouble(l)
	}
	if t.Err == nil || t.Arrives {
		for _, p := range l.To {
			m.handed = append(m.handed, Handed{l, p.Address, now})
		}
	}
	return t.Err
}

// Handed is everything that was handed over, in order, repetitions included.
func (m *Mailbox) Handed() []Handed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.handed)
}

// Letters is the same as a mail server has it that knows letters by their keys: the
// first of each.
func (m *Mailbox) Letters() []Handed {
	type name struct{ key, to string }
	seen := map[name]bool{}
	return slices.DeleteFunc(m.Handed(), func(h Handed) bool {
		n := name{h.Key, h.To}
		defer func() { seen[n] = true }()
		return seen[n]
	})
}

// carrier is the way to the mailbox of a process that may die.
type carrier struct {
	m   *mortal
	box *Mailbox
	now func() time.Time
}

// Send implements report's Mail.
func (c carrier) Send(_ context.Context, l backup.Letter) error {
	do, answer := c.m.may()
	if !do {
		return errKilled
	}
	err := c.box.Take(l, c.now())
	if !answer {
		return errKilled
	}
	return err
}

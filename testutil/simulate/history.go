// Package simulate plays random histories of whole clouds to the real functions:
// hours, months or years of tenants who come and go, and of everything that can
// break on the way, on a clock that is driven. After every act the promises of the
// service are held against the truth of the simulated cloud, and at the end
// everything has to be as if nothing had ever broken.
//
// A history is text: settings, and acts in order. [Draw] makes one of a number,
// [History.Play] plays it, and [Shrink] makes one that breaks a promise as short as
// it can be.
package simulate

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A History is what happens, and in what sort of cloud.
type History struct {
	// Start is when it begins.
	Start time.Time
	// User is the service user: "backup-svc", an admin, or "backup-min" with the least
	// rights.
	User string
	// Makers is "shown" where Cinder's policy lets the service user see who made a
	// backup, as it lets every admin; "" for Cinder's defaults.
	Makers string
	// Pace is how far apart ticks are while nothing happens.
	Pace time.Duration
	// Period is that of the default policy; waits are measured in it.
	Period time.Duration
	// Servers are how many there are at the beginning, of twelve.
	Servers int
	// Backup and Deletion are how long Cinder takes for them.
	Backup, Deletion time.Duration
	// Settings are the operator's, as NAME=value.
	Settings []string
	Acts     []Act
}

// An Act is one thing that happens. What each means, and what its parts are, is in
// the table of acts.
type Act struct {
	Do   string
	What string
	// Which chooses among what there is, modulo its number.
	Which int
	N     int
	For   time.Duration
}

// String is an act as a line: "fault 503 which=1 n=3 for=10m0s".
func (a Act) String() string {
	line := a.Do
	if a.What != "" {
		line += " " + a.What
	}
	if a.Which != 0 {
		line += " which=" + strconv.Itoa(a.Which)
	}
	if a.N != 0 {
		line += " n=" + strconv.Itoa(a.N)
	}
	if a.For != 0 {
		line += " for=" + a.For.String()
	}
	return line
}

// String is the history as text that [Parse] reads.
func (h History) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "start %s\nuser %s\nservers %d\npace %s\nperiod %s\nbackup %s\ndeletion %s\n",
		h.Start.UTC().Format(time.RFC3339), h.User, h.Servers, h.Pace, h.Period, h.Backup, h.Deletion)
	if h.Makers != "" {
		fmt.Fprintf(&b, "makers %s\n", h.Makers)
	}
	for _, s := range h.Settings {
		fmt.Fprintf(&b, "set %s\n", s)
	}
	b.WriteString("\n")
	for _, a := range h.Acts {
		b.WriteString(a.String() + "\n")
	}
	return b.String()
}

// Parse reads a history. Empty lines and what follows a # are passed over. The error
// names the line and what is wrong with it.
func Parse(text string) (History, error) {
	var h History
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := h.line(line); err != nil {
			return History{}, fmt.Errorf("line %d: %q: %w", n, line, err)
		}
	}
	switch {
	case lines.Err() != nil:
		return History{}, lines.Err()
	case h.Start.IsZero() || h.User == "" || h.Pace <= 0 || h.Period <= 0 || h.Servers <= 0:
		return History{}, fmt.Errorf("a history needs start, user, servers, pace and period")
	}
	return h, nil
}

func (h *History) line(line string) (err error) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "start":
		h.Start, err = time.Parse(time.RFC3339, rest)
	case "user":
		h.User = rest
	case "makers":
		h.Makers = rest
	case "servers":
		h.Servers, err = strconv.Atoi(rest)
	case "pace":
		h.Pace, err = time.ParseDuration(rest)
	case "period":
		h.Period, err = time.ParseDuration(rest)
	case "backup":
		h.Backup, err = time.ParseDuration(rest)
	case "deletion":
		h.Deletion, err = time.ParseDuration(rest)
	case "set":
		h.Settings = append(h.Settings, rest)
	default:
		var a Act
		if a, err = readAct(line); err == nil {
			h.Acts = append(h.Acts, a)
		}
	}
	return err
}

func readAct(line string) (a Act, err error) {
	words := strings.Fields(line)
	a.Do = words[0]
	if _, ok := acts[a.Do]; !ok {
		return a, fmt.Errorf("there is no such act")
	}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		switch {
		case name == "which":
			a.Which, err = strconv.Atoi(value)
		case name == "n":
			a.N, err = strconv.Atoi(value)
		case name == "for":
			a.For, err = time.ParseDuration(value)
		case a.What == "":
			a.What = w
		default:
			err = fmt.Errorf("%q is not which=, n= or for=", w)
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

package backup

import "time"

// Rules are archive rules: how many restore points are kept whatever their age,
// with the meaning that restic gives them. -1 is all of them.
type Rules struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
}

// ParseRules reads "last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=3", in any
// order, any of them left out; "none" and "" are no rules at all.
func ParseRules(s string) (Rules, error) {
	_ = s
	return Rules{}, nil
}

// UnmarshalText reads what [ParseRules] reads.
func (r *Rules) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRules(string(text))
	return err
}

// IsZero says whether there are none.
func (r Rules) IsZero() bool { return r == Rules{} }

// String writes them as [ParseRules] reads them; "none" for none.
func (r Rules) String() string { return "none" }

// An Archive is where the first restore point of every month or year goes, made as
// a full backup; zero for nowhere.
type Archive struct {
	// Container is Cinder's backup container.
	Container string
	// Every is [Month] or [Year].
	Every Span
}

// Span is a part of the calendar.
type Span string

// The spans of an [Archive].
const (
	Month Span = "month"
	Year  Span = "year"
)

// Key names the span that t lies in, by the clock of t's location: "2026-11" or
// "2026".
func (s Span) Key(t time.Time) string {
	if s == Year {
		return t.Format("2006")
	}
	return t.Format("2006-01")
}

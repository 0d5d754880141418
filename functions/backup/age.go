package backup

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Age is a span in the calendar's own units, as people write it: "2w3d". A
// month is a month, however long.
type Age struct {
	Years, Months, Weeks, Days, Hours, Minutes, Seconds int
}

// maxAgeYears bounds what a tenant may ask for: beyond it a value is taken for a
// slip.
const maxAgeYears = 100

// ageUnits are in the order they must be written in. "mon" comes before "m…"
// could be mistaken: there is no "m".
var ageUnits = []struct {
	name string
	of   func(*Age) *int
	max  int // no less than come in a hundred years, so that no sum overflows
}{
	{"y", func(a *Age) *int { return &a.Years }, maxAgeYears},
	{"mon", func(a *Age) *int { return &a.Months }, maxAgeYears * 12},
	{"w", func(a *Age) *int { return &a.Weeks }, maxAgeYears * 53},
	{"d", func(a *Age) *int { return &a.Days }, maxAgeYears * 366},
	{"h", func(a *Age) *int { return &a.Hours }, maxAgeYears * 366 * 24},
	{"min", func(a *Age) *int { return &a.Minutes }, maxAgeYears * 366 * 24 * 60},
	{"s", func(a *Age) *int { return &a.Seconds }, maxAgeYears * 366 * 24 * 3600},
}

const ageGrammar = "want <n>y<n>mon<n>w<n>d<n>h<n>min<n>s in that order, any of them left out, such as 2w3d; at most 100 years"

// ParseAge reads "<n>y<n>mon<n>w<n>d<n>h<n>min<n>s", where any part may be left
// out but not all, and n is a whole number. Nothing at all, zero, and more than
// 100 years are errors.
func ParseAge(s string) (Age, error) {
	var a Age
	rest, next := s, 0
	for rest != "" {
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		letters := digits
		for letters < len(rest) && rest[letters] >= 'a' && rest[letters] <= 'z' {
			letters++
		}
		n, err := strconv.Atoi(rest[:digits])
		if err != nil {
			return Age{}, fmt.Errorf("%.40q is not a span of time: %s", s, ageGrammar)
		}
		found := false
		for i := next; i < len(ageUnits) && !found; i++ {
			if u := ageUnits[i]; u.name == rest[digits:letters] {
				if n > u.max {
					return Age{}, fmt.Errorf("%.40q is longer than %d years", s, maxAgeYears)
				}
				*u.of(&a), next, found = n, i+1, true
			}
		}
		if !found {
			return Age{}, fmt.Errorf("%.40q is not a span of time: %s", s, ageGrammar)
		}
		rest = rest[letters:]
	}
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	switch {
	case a == Age{}:
		return Age{}, fmt.Errorf("%.40q is no time at all: %s", s, ageGrammar)
	case a.After(epoch).After(epoch.AddDate(maxAgeYears, 0, 0)):
		return Age{}, fmt.Errorf("%.40q is longer than %d years", s, maxAgeYears)
	}
	return a, nil
}

// UnmarshalText reads what [ParseAge] reads, and "0" or "" as the zero Age.
func (a *Age) UnmarshalText(text []byte) error {
	if len(text) == 0 || string(text) == "0" {
		*a = Age{}
		return nil
	}
	got, err := ParseAge(string(text))
	if err != nil {
		return err
	}
	*a = got
	return nil
}

// IsZero says whether it is no time at all.
func (a Age) IsZero() bool { return a == Age{} }

// String writes it as [ParseAge] reads it; "0" for no time at all.
func (a Age) String() string {
	var b strings.Builder
	for _, u := range ageUnits {
		if n := *u.of(&a); n != 0 {
			b.WriteString(strconv.Itoa(n))
			b.WriteString(u.name)
		}
	}
	if b.Len() == 0 {
		return "0"
	}
	return b.String()
}

// After is the moment that lies the age after t, counted in the calendar of t's
// location: years and months first, a day that the month does not have becoming
// its last (31 January + 1mon = 28 or 29 February), then weeks and days by the
// wall clock, then hours, minutes and seconds as they pass. A wall clock time that
// the day does not have, or has twice, is taken as [time.Date] takes it.
func (a Age) After(t time.Time) time.Time {
	// Without any days the wall clock must not be asked: an hour that comes twice
	// would be read as its first time, and time would go back.
	if a.Years != 0 || a.Months != 0 || a.Weeks != 0 || a.Days != 0 {
		y, m, d := t.Date()
		months := int(m) - 1 + a.Months + a.Years*12
		y, m = y+months/12, time.Month(months%12+1)
		if last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day(); d > last {
			d = last
		}
		hh, mm, ss := t.Clock()
		t = time.Date(y, m, d+7*a.Weeks+a.Days, hh, mm, ss, t.Nanosecond(), t.Location())
	}
	// One by one: together they can be more than a Duration holds.
	return t.Add(time.Duration(a.Hours) * time.Hour).Add(time.Duration(a.Minutes) * time.Minute).Add(time.Duration(a.Seconds) * time.Second)
}

// Compare orders ages by how far they reach; months count 30 and years 365 days.
func (a Age) Compare(b Age) int { return cmp.Compare(a.seconds(), b.seconds()) }

// seconds is how far it reaches, about: a [time.Duration] would be too short for
// all parts of a hundred years each.
func (a Age) seconds() int64 {
	days := int64(a.Years)*365 + int64(a.Months)*30 + int64(a.Weeks)*7 + int64(a.Days)
	return ((days*24+int64(a.Hours))*60+int64(a.Minutes))*60 + int64(a.Seconds)
}

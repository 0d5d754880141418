package backup

import (
	"fmt"
	"strings"
	"unicode"
)

// Line fits text from elsewhere into one line: what does not print and runs of spaces become one
// space each, and what is longer than so many characters is cut and ends in "…".
func Line(s string, most int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r == ' ' || r == '\uFFFD' || !unicode.IsPrint(r)
	}), " ")
	if cut := fmt.Sprintf("%.*s", most, s); cut != s {
		return fmt.Sprintf("%.*s…", most-1, s)
	}
	return s
}

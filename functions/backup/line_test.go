package backup

import (
	"strings"
	"testing"
)

func TestTextOfOthersFitsIntoALine(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"line breaks and tabs become one space", "\ta\r\n b\u2028c ", "a b c"},
		{"what does not print goes", "a\x1b[31mred\x00\u202eb", "a [31mred b"},
		{"what is not UTF-8 goes", "a\xffb", "a b"},
		{"other letters stay", "größer 字 ✓", "größer 字 ✓"},
		{"as long as it may be", strings.Repeat("字", 20), strings.Repeat("字", 20)},
		{"one character too long", strings.Repeat("字", 21), strings.Repeat("字", 19) + "…"},
		{"nothing", "", ""},
	} {
		if got := Line(tc.in, 20); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

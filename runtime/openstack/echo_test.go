package openstack

import (
	"net/http"
	"strings"
	"testing"
)

// A service that cites what it was asked with is not cited with it.
func TestAnEchoOfTheTokenIsNotTold(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	own, err := c.sessions.get(t.Context(), ownScope)
	if err != nil {
		t.Fatal(err)
	}
	const others = "gAAAAABqEexample_of-anothers-token=="
	token, password := own.client.TokenID, c.opts.Auth.Password
	for _, status := range []int{http.StatusForbidden, http.StatusConflict, http.StatusInternalServerError} {
		f.answer = func(request) reply {
			return reply{status: status, body: `{"error": {"message": "token ` + token + ` of ` + password + ` is not accepted, nor ` + others + `, ` + strings.Repeat(token, 100) + `"}}`}
		}
		_, err := c.Backups(t.Context(), serviceProject)
		if err == nil || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), others[:20]) || !strings.Contains(err.Error(), "***") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

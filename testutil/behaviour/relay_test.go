package behaviour

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A relay stands between Cinder and the policy function: it passes each check on
// as it came, and keeps it with its answer.
type relay struct {
	*httptest.Server

	mu     sync.Mutex
	to     string // the function's address
	checks []policyCheck
}

// A policyCheck is one that Cinder sent, and what it was answered.
type policyCheck struct {
	uri, contentType, body string
	status                 int
	answer                 string
}

func (s *scene) openRelay(to string) *relay {
	r := &relay{to: to}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		c := policyCheck{uri: in.RequestURI, contentType: in.Header.Get("Content-Type"), body: string(body)}
		if err := c.ask(r.to); err != nil {
			panic(http.ErrAbortHandler)
		}
		r.mu.Lock()
		r.checks = append(r.checks, c)
		r.mu.Unlock()
		w.WriteHeader(c.status)
		_, _ = io.WriteString(w, c.answer)
	}))
	s.t.Cleanup(r.Close)
	return r
}

// ask sends the check to a policy function and notes the answer.
func (c *policyCheck) ask(address string) error {
	resp, err := apiClient.Post("http://"+address+c.uri, c.contentType, strings.NewReader(c.body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	c.status, c.answer = resp.StatusCode, string(answer)
	return err
}

func (r *relay) seen() []policyCheck {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.checks)
}

// policyFile is the one that operators are given, with its two blanks filled in.
func policyFile(t *testing.T, check, user string) string {
	t.Helper()
	const address, name = "http://127.0.0.1:8808", "STAFFELN_USER"
	file, err := os.ReadFile(filepath.Join("..", "..", "infra", "cinder", "staffeln.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, blank := range []string{address, name} {
		if !bytes.Contains(file, []byte(blank)) {
			t.Fatalf("the policy file has no %s to be filled in", blank)
		}
	}
	return strings.NewReplacer(address, check, name, user).Replace(string(file))
}

package behaviour

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A session talks to OpenStack as one user in one project. It is written without
// any part of the program under test, gophercloud included.
type session struct {
	auth, user, password, project string

	mu      sync.Mutex
	token   string
	id      string            // of the user
	catalog map[string]string // by service type
}

// The microversions the tenant speaks.
var microversions = map[string]string{"compute": "compute 2.79", "volumev3": "volume 3.64"}

// A refusal is an answer that is not the one hoped for.
type refusal struct {
	what    string
	status  int
	message string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %d %s", r.what, r.status, r.message) }

// status of an error: that of the answer, 0 if there was none.
func status(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	return 0
}

// apiClient waits longer than a cloud whose broker is away lets one wait.
var apiClient = &http.Client{Timeout: 2 * time.Minute}

type object = map[string]any

// call asks a service ("identity", "compute", "volumev3"); out may be nil.
func (s *session) call(method, service, path string, in, out any) error {
	for again := false; ; again = true {
		err := s.ask(method, service, path, in, out)
		if status(err) != 401 || again {
			return err
		}
		s.mu.Lock()
		s.token = ""
		s.mu.Unlock()
	}
}

func (s *session) ask(method, service, path string, in, out any) error {
	token, base, err := s.endpoint(service)
	if err != nil {
		return err
	}
	_, err = send(method, base+path, token, microversions[service], in, out)
	return err
}

func (s *session) endpoint(service string) (token, base string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" {
		if err := s.login(); err != nil {
			return "", "", err
		}
	}
	if service == "identity" {
		return s.token, s.auth, nil
	}
	if s.catalog[service] == "" {
		return "", "", fmt.Errorf("the catalog has no %s", service)
	}
	return s.token, s.catalog[service], nil
}

// userID logs in and says who that is.
func (s *session) userID() (string, error) {
	_, _, err := s.endpoint("identity")
	return s.id, err
}

func (s *session) login() error {
	domain := object{"id": "default"}
	in := object{"auth": object{
		"identity": object{"methods": []string{"password"},
			"password": object{"user": object{"name": s.user, "domain": domain, "password": s.password}}},
		"scope": object{"project": object{"name": s.project, "domain": domain}},
	}}
	var out struct {
		Token struct {
			User    struct{ ID string }
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, URL string }
			}
		}
	}
	header, err := send("POST", s.auth+"/auth/tokens", "", "", in, &out)
	if err != nil {
		return fmt.Errorf("log in as %s: %w", s.user, err)
	}
	s.token, s.id, s.catalog = header.Get("X-Subject-Token"), out.Token.User.ID, map[string]string{}
	for _, service := range out.Token.Catalog {
		for _, e := range service.Endpoints {
			if e.Interface == "public" {
				s.catalog[service.Type] = strings.TrimRight(e.URL, "/")
			}
		}
	}
	return nil
}

func send(method, url, token, version string, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	if version != "" {
		r.Header.Set("OpenStack-API-Version", version)
	}
	resp, err := apiClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, &refusal{method + " " + r.URL.Path, resp.StatusCode, message(b)}
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, r.URL.Path, err)
		}
	}
	return resp.Header, nil
}

// message is what OpenStack says in {"itemNotFound": {"message": ...}}.
func message(body []byte) string {
	var fault map[string]struct{ Message string }
	if json.Unmarshal(body, &fault) == nil {
		for _, f := range fault {
			return f.Message
		}
	}
	return strings.TrimSpace(string(body[:min(len(body), 200)]))
}

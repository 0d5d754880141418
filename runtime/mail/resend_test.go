package mail

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// A resendServer follows Resend's API as its reference has it: POST /emails with a
// key, idempotency for a day, 409 for another letter under the same key.
type resendServer struct {
	*httptest.Server
	mutex sync.Mutex
	// next are answers to give before working.
	next []func(http.ResponseWriter)
	sent map[string]map[string]any // by idempotency key
	mail []map[string]any
}

const apiKey = "re_123456789_abcdefghij"

func newResend(t *testing.T, next ...func(http.ResponseWriter)) *resendServer {
	s := &resendServer{next: next, sent: map[string]map[string]any{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *resendServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	w.Header().Set("Content-Type", "application/json")
	refuse := func(status int, name, message string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"statusCode":%d,"name":%q,"message":%q}`, status, name, message)
	}
	if r.Method != http.MethodPost || r.URL.Path != "/emails" {
		refuse(404, "not_found", "The requested endpoint does not exist.")
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+apiKey {
		refuse(403, "invalid_api_key", "API key is invalid")
		return
	}
	body, _ := io.ReadAll(r.Body)
	var m map[string]any
	if json.Unmarshal(body, &m) != nil || m["from"] == nil || m["to"] == nil {
		refuse(422, "missing_required_field", "Missing `to` field.")
		return
	}
	if len(s.next) > 0 {
		answer := s.next[0]
		s.next = s.next[1:]
		if answer != nil {
			answer(w)
			return
		}
	}
	key := r.Header.Get("Idempotency-Key")
	if before, ok := s.sent[key]; ok {
		if fmt.Sprint(before) != fmt.Sprint(m) {
			refuse(409, "invalid_idempotent_request", "Same idempotency key used with a different request payload.")
			return
		}
	} else {
		s.sent[key] = m
		s.mail = append(s.mail, m)
	}
	fmt.Fprintf(w, `{"id":"49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}`)
}

func (s *resendServer) channel() Resend {
	return Resend{Sender: Sender{From: "Backups <backup@example.org>", ReplyTo: "help@example.org"}, Key: apiKey, URL: s.URL, Timeout: 10 * time.Second}
}

func answer(status int, headers map[string]string, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for k, v := range headers {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestWhatResendGets(t *testing.T) {
	s := newResend(t)
	l := letter("ada@example.org")
	for range 3 { // told once, however often it is tried
		if err := s.channel().Send(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.mail) != 1 {
		t.Fatalf("%d mails", len(s.mail))
	}
	m := s.mail[0]
	for name, want := range map[string]string{
		"from": "Backups <backup@example.org>", "to": "[ada@example.org]", "reply_to": "help@example.org", "subject": l.Subject, "html": l.HTML, "text": l.Text,
	} {
		if got := fmt.Sprint(m[name]); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	h := m["headers"].(map[string]any)
	if h["Auto-Submitted"] != "auto-generated" || h["Message-ID"] != "<"+fingerprint(l.Key)+"@example.org>" || !strings.HasPrefix(fmt.Sprint(h["List-Id"]), "<1176721179d7") {
		t.Errorf("headers %v", h)
	}
	if keys := slices.Collect(maps.Keys(s.sent)); len(keys) != 1 || keys[0] != fingerprint(l.Key) {
		t.Errorf("idempotency keys %v", keys)
	}
}

func TestResendDoesNotShowRecipientsToOneAnother(t *testing.T) {
	s := newResend(t)
	l := letter("a@example.org", "b@example.org")
	if err := s.channel().Send(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if m := s.mail[0]; fmt.Sprint(m["to"]) != "[Backups <backup@example.org>]" || fmt.Sprint(m["bcc"]) != "[a@example.org b@example.org]" {
		t.Errorf("to %v, bcc %v", m["to"], m["bcc"])
	}
	var many []string
	for i := range 120 {
		many = append(many, fmt.Sprintf("p%d@example.org", i))
	}
	s = newResend(t, nil, answer(500, nil, "{}"))
	l = letter(many...)
	l.Key = "many"
	err := as(s.channel().Send(t.Context(), l))
	if !err.Sent || len(err.Told) != 70 || err.Permanent {
		t.Errorf("%+v", err)
	}
}

func TestWhatResendAnswers(t *testing.T) {
	json := map[string]string{"Content-Type": "application/json"}
	for _, c := range []struct {
		sentence  string
		next      func(http.ResponseWriter)
		permanent bool
		again     bool
	}{
		{"Too many requests: later", answer(429, map[string]string{"Content-Type": "application/json", "retry-after": "1"}, `{"name":"rate_limit_exceeded","message":"Too many requests"}`), false, true},
		{"The day's quota is used up: later", answer(429, json, `{"name":"daily_quota_exceeded","message":"You have reached your daily email quota."}`), false, true},
		{"Another request with this key is under way: later", answer(409, json, `{"name":"concurrent_idempotent_requests","message":"Another request with the same idempotency key is in progress."}`), false, true},
		{"In trouble: later", answer(500, json, `{"name":"application_error","message":"An unexpected error occurred."}`), false, true},
		{"HTML instead of an answer: later", answer(502, map[string]string{"Content-Type": "text/html"}, "<html>Bad gateway"), false, true},
		{"An address it does not take: for good", answer(422, json, `{"name":"validation_error","message":"Invalid `+"`to`"+` field."}`), true, false},
		{"A domain that is not verified: for good", answer(403, json, `{"name":"validation_error","message":"The example.org domain is not verified."}`), true, false},
	} {
		s := newResend(t, c.next)
		l := letter("ada@example.org")
		err := as(s.channel().Send(t.Context(), l))
		if err.Err == nil || err.Permanent != c.permanent {
			t.Errorf("%s: %+v", c.sentence, err)
		}
		if c.again {
			if err := s.channel().Send(t.Context(), l); err != nil || len(s.mail) != 1 {
				t.Errorf("%s: again: %v, %d mails", c.sentence, err, len(s.mail))
			}
		}
	}
	// Sent, its answer lost, and since then the words have changed: it was sent.
	s := newResend(t)
	l := letter("ada@example.org")
	if err := s.channel().Send(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	l.Text = "other words"
	if err := s.channel().Send(t.Context(), l); err != nil || len(s.mail) != 1 {
		t.Errorf("%v, %d mails", err, len(s.mail))
	}
	// A wrong key is nowhere to be read.
	wrong := s.channel()
	wrong.Key = "re_wrong_key_of_ours"
	if err := as(wrong.Send(t.Context(), l)); !err.Permanent || strings.Contains(err.Error(), "re_wrong") {
		t.Errorf("%+v", err)
	}
	// Nobody there, and somebody who sends the key elsewhere.
	s.Close()
	if err := as(s.channel().Send(t.Context(), l)); err.Err == nil || err.Permanent {
		t.Errorf("%+v", err)
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/emails" {
			t.Errorf("followed to %s", r.URL)
		}
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	}))
	defer elsewhere.Close()
	c := s.channel()
	c.URL = elsewhere.URL
	if err := as(c.Send(t.Context(), backup.Letter(letter("ada@example.org")))); err.Err == nil {
		t.Error("redirected")
	}
}

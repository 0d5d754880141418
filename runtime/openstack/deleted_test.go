package openstack

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"staffeln/testutil/simcloud"
)

// Somebody deletes the project that a user with least rights would look the
// versions up with, between the list of projects and the token.
func TestConnectPassesOverAProjectJustDeleted(t *testing.T) {
	cloud, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	seeded := cloud.Seed()
	var ids []string
	for _, name := range []string{"admin", "service", "alpha", "beta", "gamma"} {
		ids = append(ids, seeded.Projects[name])
	}
	first := slices.Min(ids)
	cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		if op != "POST /identity/auth/tokens" {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err == nil && strings.Contains(string(body), first) {
			return simcloud.Refused(http.StatusNotFound, "Could not find project: "+first+".")
		}
		return nil
	})
	environ := map[string]string{"OS_AUTH_URL": cloud.AuthURL(), "OS_USERNAME": "backup-min", "OS_PASSWORD": simcloud.Password, "OS_USER_DOMAIN_NAME": "Default"}
	o, err := FromEnv(func(name string) (string, bool) { v, ok := environ[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Services(t.Context()); err != nil || s.Known {
		t.Errorf("services: %+v, %v; those with least rights cannot know", s, err)
	}
}

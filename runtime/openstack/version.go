package openstack

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"staffeln/functions/backup"
)

// A version is a microversion: 3.64.
type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) less(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

func readVersion(s string) (version, bool) {
	major, minor, ok := strings.Cut(s, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return version{a, b}, ok && err1 == nil && err2 == nil && a >= 0 && b >= 0
}

// agree finds the highest microversion that both sides know, from the document
// at the root of the API: Nova's has {"version"}, Cinder's {"versions"}.
func (c *Cloud) agree(ctx context.Context, scope string, a api, least, most version) (version, error) {
	s, err := c.sessions.get(ctx, scope)
	if err != nil {
		return version{}, err
	}
	root, err := s.cinder, s.cinderErr
	if a.name == novaAPI.name {
		root, err = s.nova, s.novaErr
	}
	if err != nil {
		return version{}, &backup.CloudError{Fault: backup.Operator, Op: opVersions, Message: err.Error()}
	}
	q := ask{op: opVersions, api: a, method: http.MethodGet, plain: true,
		url: versioned.ReplaceAllString(strings.TrimRight(root, "/"), "$1") + "/",
		ok:  []int{http.StatusOK, http.StatusMultipleChoices}}
	got, err := c.do(ctx, scope, q)
	if err != nil {
		return version{}, err
	}
	type document struct {
		Max string `json:"version"`
		Min string `json:"min_version"`
	}
	var d struct {
		Version  *document  `json:"version"`
		Versions []document `json:"versions"`
	}
	if err := decode(got, &d); err != nil {
		return version{}, q.bad(got.status, err)
	}
	if d.Version != nil {
		d.Versions = append(d.Versions, *d.Version)
	}
	refuse := func(has string) (version, error) {
		return version{}, &backup.CloudError{Fault: backup.Operator, Op: opVersions, Status: got.status,
			Message: fmt.Sprintf("microversion %s of %s is needed, %s", least, a.name, has)}
	}
	has := "it tells of none"
	for _, v := range d.Versions {
		high, ok := readVersion(v.Max)
		low, ok2 := readVersion(v.Min)
		if !ok || !ok2 || high.major != least.major {
			continue
		}
		use := high
		if most.less(use) {
			use = most
		}
		if !use.less(least) && !use.less(low) {
			return use, nil
		}
		has = fmt.Sprintf("it has %s to %s", low, high)
	}
	return refuse(has)
}

package openstack

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"

	"staffeln/functions/backup"
)

// A novaServer is what is read of Nova's server. What must not be missing is nil
// where it is.
type novaServer struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Project  string            `json:"tenant_id"`
	Status   string            `json:"status"`
	Metadata map[string]string `json:"metadata"`
	Tags     []string          `json:"tags"`
	Volumes  []struct {
		ID string `json:"id"`
	} `json:"os-extended-volumes:volumes_attached"`
}

func (w novaServer) read() (string, backup.Server, error) {
	s := backup.Server{ID: w.ID, Name: w.Name, Project: w.Project, Status: w.Status, Metadata: w.Metadata, Tags: w.Tags}
	switch {
	case !validID(w.ID):
		return "", s, errors.New("a server without a valid id")
	case w.Status == "UNKNOWN" && w.Metadata == nil:
		// From 2.69 on Nova shows no more than this of a server in a cell that does
		// not answer (nova/api/openstack/compute/views/servers.py). Its opt-in and
		// its volumes are not known.
		return "", s, errors.New("a cell of Nova's does not answer: server " + w.ID + " is not known in full")
	case !validID(w.Project):
		return "", s, errors.New("a server without a valid tenant_id")
	case w.Status == "":
		return "", s, errors.New("a server without a status")
	case w.Metadata == nil:
		return "", s, errors.New("a server without metadata")
	case w.Tags == nil:
		return "", s, errors.New("a server without tags: the microversion was lost on the way")
	case w.Volumes == nil:
		return "", s, errors.New("a server without volumes_attached")
	}
	for _, v := range w.Volumes {
		if !validID(v.ID) {
			return "", s, errors.New("a server with a volume that has no valid id")
		}
		s.Volumes = append(s.Volumes, v.ID)
	}
	return s.ID, s, nil
}

// Servers lists the servers of a scope, one of [Cloud.Scopes]: complete, or an
// error. Servers of projects that are not included are left out. A cell of
// Nova's that does not answer makes it an error.
func (c *Cloud) Servers(ctx context.Context, scope string) ([]backup.Server, error) {
	a := ask{op: opListServers, api: novaAPI, method: http.MethodGet, path: "servers/detail"}
	l := listing[novaServer, backup.Server]{ask: a, key: "servers", read: novaServer.read}
	return complete(ctx, c, scope, l, func(s backup.Server) string { return s.Project })
}

// Server shows a server of the project. One of another project is [backup.Gone].
func (c *Cloud) Server(ctx context.Context, project, id string) (backup.Server, error) {
	var w struct {
		Server *novaServer `json:"server"`
	}
	a := ask{op: opShowServer, api: novaAPI, method: http.MethodGet, path: "servers/" + id, thing: true, left: true}
	got, err := c.about(ctx, project, a, &w, id)
	if err != nil {
		return backup.Server{}, err
	}
	if w.Server == nil {
		return backup.Server{}, a.bad(got.status, errors.New("no server in the answer"))
	}
	_, s, err := w.Server.read()
	if err == nil && s.ID != id {
		err = errors.New("the answer is about another server")
	}
	if err != nil {
		return backup.Server{}, a.bad(got.status, err)
	}
	return s, ofAnother(a.op, s.Project, project)
}

// metadataKey is Nova's own rule (nova/api/validation/parameter_types.py).
var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)

// SetServerMetadata sets one key of a server's metadata and leaves all others
// alone, those that someone else is setting at the moment included. Nova refuses
// it ([backup.Busy]) while the server is locked, shelved or has a task.
func (c *Cloud) SetServerMetadata(ctx context.Context, project, server, key, value string) error {
	if !metadataKey.MatchString(key) || key == "." || key == ".." || len(value) > 255 {
		return &backup.CloudError{Fault: backup.Operator, Op: opSetMetadata,
			Message: "Nova takes keys of 1 to 255 letters, digits and -_:. and values of up to 255 bytes"}
	}
	a := ask{op: opSetMetadata, api: novaAPI, method: http.MethodPut, thing: true,
		path: "servers/" + server + "/metadata/" + url.PathEscape(key),
		body: map[string]any{"meta": map[string]string{key: value}}}
	var w struct {
		Meta map[string]string `json:"meta"`
	}
	got, err := c.about(ctx, project, a, &w, server)
	if err != nil {
		return err
	}
	if v, ok := w.Meta[key]; !ok || v != value {
		return a.bad(got.status, errors.New("the answer does not show the key as set"))
	}
	return nil
}

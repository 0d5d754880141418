// Package nova answers as Nova: servers, their metadata, tags and attachments.
package nova

import (
	"maps"
	"slices"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// Routes are Nova's.
var Routes = []api.Route{
	{Method: "GET", Pattern: "servers/detail", Do: listServers},
	{Method: "GET", Pattern: "servers", Do: listServers},
	{Method: "POST", Pattern: "servers", Do: makeServer},
	{Method: "GET", Pattern: "servers/ID", Do: showServer},
	{Method: "PUT", Pattern: "servers/ID", Do: renameServer},
	{Method: "DELETE", Pattern: "servers/ID", Do: deleteServer},
	{Method: "POST", Pattern: "servers/ID/action", Do: serverAction},
	{Method: "GET", Pattern: "servers/ID/metadata", Do: serverMetadata},
	{Method: "POST", Pattern: "servers/ID/metadata", Do: serverMetadata},
	{Method: "PUT", Pattern: "servers/ID/metadata", Do: serverMetadata},
	{Method: "GET", Pattern: "servers/ID/metadata/KEY", Do: serverMetadatum},
	{Method: "PUT", Pattern: "servers/ID/metadata/KEY", Do: serverMetadatum},
	{Method: "DELETE", Pattern: "servers/ID/metadata/KEY", Do: serverMetadatum},
	{Method: "GET", Pattern: "servers/ID/tags", Do: serverTags},
	{Method: "PUT", Pattern: "servers/ID/tags", Do: serverTags},
	{Method: "DELETE", Pattern: "servers/ID/tags", Do: serverTags},
	{Method: "GET", Pattern: "servers/ID/tags/KEY", Do: serverTag},
	{Method: "PUT", Pattern: "servers/ID/tags/KEY", Do: serverTag},
	{Method: "DELETE", Pattern: "servers/ID/tags/KEY", Do: serverTag},
	{Method: "GET", Pattern: "servers/ID/os-volume_attachments", Do: listAttachments},
	{Method: "POST", Pattern: "servers/ID/os-volume_attachments", Do: attachVolume},
	{Method: "GET", Pattern: "servers/ID/os-volume_attachments/ID", Do: showAttachment},
	{Method: "DELETE", Pattern: "servers/ID/os-volume_attachments/ID", Do: detachVolume},
	{Method: "GET", Pattern: "flavors", Do: listFlavors},
	{Method: "GET", Pattern: "flavors/detail", Do: listFlavors},
}

// novaAt is how Nova tells times of its own.
func novaAt(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// novaBase is Nova's address in links. The token's project is part of it wherever
// it occurs in the URL, be it as a filter. Source: nova/api/openstack/common.py,
// _get_project_id.
func novaBase(s *model.State, q *api.Request) string {
	if p := q.Token.Project; p != nil && strings.Contains(q.Raw, p.ID) {
		return s.Options.Base + api.ComputePath + "/" + p.ID
	}
	return s.Options.Base + api.ComputePath
}

func serverLinks(s *model.State, q *api.Request, id string) []api.Link {
	base := novaBase(s, q)
	return []api.Link{{Rel: "self", Href: base + "/servers/" + id},
		{Rel: "bookmark", Href: strings.Replace(base, api.ComputePath, "/compute", 1) + "/servers/" + id}}
}

func findServer(s *model.State, q *api.Request) *model.ServerRow {
	v := s.Servers[q.Args[0]]
	if v == nil || v.Project != q.Token.Project && !q.Token.Admin() {
		return nil
	}
	return v
}

func noServer(id string) api.Answer { return api.Fail(404, "Instance %s could not be found.", id) }

// locked is the refusal of a locked server; its lock does not hold an admin.
func lockedFor(v *model.ServerRow, q *api.Request) api.Answer {
	if v.LockedBy != "" && !q.Token.Admin() {
		return api.Fail(409, "Instance %s is locked", v.ID)
	}
	return api.Answer{}
}

// must be in one of some states. Source: nova/compute/api.py,
// check_instance_state.
func mustBe(v *model.ServerRow, action string, states ...string) api.Answer {
	if !slices.Contains(states, v.VMState()) {
		return api.Fail(409, "Cannot '%s' instance %s while it is in vm_state %s", action, v.ID, v.VMState())
	}
	if v.Task != "" {
		return api.Fail(409, "Cannot '%s' instance %s while it is in task_state %s", action, v.ID, v.Task)
	}
	return api.Answer{}
}

// changeable is the refusal to change metadata.
func changeable(v *model.ServerRow, q *api.Request, action string) api.Answer {
	if a := lockedFor(v, q); a.Status != 0 {
		return a
	}
	return mustBe(v, action, "active", "paused", "suspended", "stopped")
}

// mustBeIn is mustBe, for what a task does not hinder.
func mustBeIn(v *model.ServerRow, action string, states ...string) api.Answer {
	if !slices.Contains(states, v.VMState()) {
		return api.Fail(409, "Cannot '%s' instance %s while it is in vm_state %s", action, v.ID, v.VMState())
	}
	return api.Answer{}
}

func listFlavors(s *model.State, q *api.Request, _ time.Time) api.Answer {
	f := map[string]any{"id": model.FlavorID, "name": model.FlavorName, "description": nil,
		"links": []api.Link{{Rel: "self", Href: s.Options.Base + api.ComputePath + "/flavors/" + model.FlavorID},
			{Rel: "bookmark", Href: s.Options.Base + "/compute/flavors/" + model.FlavorID}}}
	if strings.HasSuffix(q.Route.Pattern, "detail") {
		maps.Copy(f, map[string]any{"ram": 64, "disk": 1, "swap": 0, "vcpus": 1, "OS-FLV-EXT-DATA:ephemeral": 0,
			"OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": true, "rxtx_factor": 1.0,
			"extra_specs": map[string]string{}})
	}
	return api.Answer{Status: 200, Page: &api.Page{Name: "flavors", Items: []any{f}}}
}

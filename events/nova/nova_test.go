package nova

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"staffeln/events"
	"staffeln/events/oslo"
	"staffeln/events/wire"
)

var update = flag.Bool("update", false, "write the golden file anew")

// Every capture of Nova's is decoded, and stays decoded as it is.
func TestCaptures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d captures, %v", len(files), err)
	}
	var b strings.Builder
	seen := map[string]bool{}
	for _, file := range files {
		i, err := DecodeInstance(capture(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		seen[i.Event] = true
		line, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n\t%s\n", filepath.Base(file), line)
	}
	const golden = "testdata/instances.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("decoded otherwise than before (-want +got); if that is right: go test ./events/nova -update\n%s", d)
	}
	uncaught := []string{ // made by hand below
		"compute.instance.force_delete.end", "compute.instance.soft_delete.end", "compute.instance.restore.end", "compute.instance.rebuild.end",
		"instance.soft_delete.end", "instance.restore.end", "instance.rebuild.end", "instance.volume_swap.end",
	}
	for _, typ := range Types {
		if !seen[typ] && !slices.Contains(uncaught, typ) {
			t.Errorf("no capture of %s", typ)
		}
	}
}

func capture(tb testing.TB, file string) events.Event {
	tb.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	e, err := oslo.Decode(body)
	if err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	return e
}

func TestWhatCapturesSay(t *testing.T) {
	decode := func(name string) Instance {
		t.Helper()
		i, err := DecodeInstance(capture(t, "testdata/"+name+".json"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return i
	}
	for _, kind := range []string{"nova.compute.instance.update", "nova-versioned.instance.update"} {
		versioned := strings.HasPrefix(kind, "nova-versioned")

		set := decode(kind + ".nova-metadata-set")
		if d := cmp.Diff(map[string]string{"backup": "yes", "retention": "2w"}, set.Metadata); d != "" {
			t.Errorf("%s: metadata that was set (-want +got):\n%s", kind, d)
		}
		if !set.HasMetadata || set.StateOnly || set.HasTags != versioned || set.Opaque {
			t.Errorf("%s: a change of metadata is one, and only the versioned has tags: %+v", kind, set)
		}
		if set.State != "active" || set.ID != "ef821e4c-ab20-4166-b0ce-f518d0f7e79a" || set.Project != "1176721179d74e6b9f16b23e2bb580a3" || set.Name != "life" {
			t.Errorf("%s: whose it is: %+v", kind, set)
		}
		if rename := decode(kind + ".nova-server-rename"); rename.StateOnly || rename.Name == "" {
			t.Errorf("%s: a rename is more than a state: %+v", kind, rename)
		}
		if made := decode(kind + ".nova-server-create-202"); !made.StateOnly {
			t.Errorf("%s: an update of a server that is building tells of its state only: %+v", kind, made)
		}
	}
	for _, name := range []string{"nova.compute.instance.delete.end", "nova-versioned.instance.delete.end"} {
		if !decode(name).Deleted {
			t.Errorf("%s: is gone", name)
		}
	}
	for _, name := range []string{"nova.compute.instance.delete.start", "nova-versioned.instance.delete.start"} {
		if decode(name).Deleted {
			t.Errorf("%s: is not gone yet", name)
		}
	}
	for _, name := range []string{
		"nova.compute.instance.volume.attach", "nova.compute.instance.volume.detach",
		"nova-versioned.instance.volume_attach.end", "nova-versioned.instance.volume_detach.end",
	} {
		if i := decode(name); !i.VolumeChange || i.Volume == "" {
			t.Errorf("%s: has another volume now: %+v", name, i)
		}
	}
}

const (
	server  = "ef821e4c-ab20-4166-b0ce-f518d0f7e79a"
	volume  = "e928004d-7602-4c40-a4a9-d3346d78ec7b"
	project = "1176721179d74e6b9f16b23e2bb580a3"
)

func TestUpdatesThatOnlyMoveStates(t *testing.T) {
	for sentence, c := range map[string]struct {
		old, state, oldTask, task string
		want                      bool
	}{
		"nothing moved: something else must have":          {"active", "active", "null", "null", false},
		"the state moved":                                  {"active", "stopped", "null", "null", true},
		"the task began":                                   {"active", "active", "null", `"rebooting"`, true},
		"the task ended":                                   {"active", "active", `"rebooting"`, "null", true},
		"the task went on":                                 {"active", "active", `"image_snapshot"`, `"image_uploading"`, true},
		"the task is the same: could be a tag or a rename": {"active", "active", `"rebooting"`, `"rebooting"`, false},
		"still building, the same task":                    {"building", "building", `"scheduling"`, `"scheduling"`, true},
	} {
		legacy := fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q, "old_state": %q, "state": %q, "old_task_state": %s, "new_task_state": %s, "state_description": ""}`,
			server, project, c.old, c.state, c.oldTask, c.task)
		versioned := fmt.Sprintf(`{"nova_object.name": "InstanceUpdatePayload", "nova_object.version": "2.0", "nova_object.data": {"uuid": %q, "tenant_id": %q,
			"state": %q, "state_update": {"nova_object.version": "1.0", "nova_object.data": {"old_state": %q, "state": %q, "old_task_state": %s, "new_task_state": %s}}}}`,
			server, project, c.state, c.old, c.state, c.oldTask, c.task)
		for typ, data := range map[string]string{"compute.instance.update": legacy, "instance.update": versioned} {
			i, err := DecodeInstance(events.Event{Type: typ, Data: json.RawMessage(data)})
			if err != nil {
				t.Errorf("%s, %s: %v", sentence, typ, err)
			} else if i.StateOnly != c.want || i.State != c.state || i.OldState != c.old {
				t.Errorf("%s, %s: StateOnly is %t; %+v", sentence, typ, i.StateOnly, i)
			}
		}
	}
}

func TestShapesOfPayloads(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	object := func(version, fields string) string {
		return fmt.Sprintf(`{"nova_object.name": "InstanceActionPayload", "nova_object.version": %q, "nova_object.data": {%s}}`, version, fields)
	}
	ids := fmt.Sprintf(`"uuid": %q, "tenant_id": %q`, server, project)
	base := Instance{ID: server, Project: project, At: at}
	for sentence, c := range map[string]struct {
		typ, data string
		want      func(*Instance)
	}{
		"a minor version more has more fields": {"instance.rebuild.end", object("1.99", ids+`, "metadata": {}, "news": [1]`),
			func(i *Instance) { i.HasMetadata, i.Metadata = true, map[string]string{} }},
		"a major version more is opaque": {"instance.rebuild.end", object("2.0", ids+`, "metadata": {}`),
			func(i *Instance) { i.Opaque = true }},
		"so is no version at all": {"instance.update", object("", ids),
			func(i *Instance) { i.Opaque = true }},
		"so is one of which only the server's id can be read": {"instance.update", object("3.0", `"uuid": "`+server+`", "tenant_id": {"id": 1}`),
			func(i *Instance) { i.Opaque, i.Project = true, "" }},
		"so is a field of another type than thought": {"instance.update", object("1.8", ids+`, "state": {"vm_state": "active"}`),
			func(i *Instance) { i.Opaque = true }},
		"so is a versioned type without the versioned object": {"instance.update", `{` + ids + `}`,
			func(i *Instance) { i.Opaque = true }},
		"an opaque deletion is still one": {"instance.delete.end", object("7.0", ids),
			func(i *Instance) { i.Opaque, i.Deleted = true, true }},
		"the legacy form": {"compute.instance.restore.end", fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q, "display_name": "x", "state": "active", "metadata": {"a": "b"}, "deleted_at": ""}`, server, project),
			func(i *Instance) {
				i.Name, i.State, i.OldState = "x", "active", "active"
				i.HasMetadata, i.Metadata = true, map[string]string{"a": "b"}
			}},
		"metadata as a list of pairs": {"compute.instance.create.end", fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q, "metadata": [{"key": "a", "value": "b"}]}`, server, project),
			func(i *Instance) { i.HasMetadata, i.Metadata = true, map[string]string{"a": "b"} }},
		"metadata values that are not strings": {"compute.instance.create.end", fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q, "metadata": {"a": null, "b": true, "c": "null"}}`, server, project),
			func(i *Instance) {
				i.HasMetadata, i.Metadata = true, map[string]string{"a": "", "b": "true", "c": "null"}
			}},
		"metadata that cannot be read is not empty metadata": {"compute.instance.create.end", fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q, "metadata": "{}"}`, server, project),
			func(*Instance) {}},
		"a project id with hyphens and capitals": {"compute.instance.create.end", fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q}`, strings.ToUpper(server), strings.ToUpper(server)),
			func(i *Instance) { i.Project = server }},
		"tags": {"instance.update", `{"nova_object.name": "InstanceUpdatePayload", "nova_object.version": "1.9", "nova_object.data": {` + ids + `, "tags": ["backup:gold"]}}`,
			func(i *Instance) { i.HasTags, i.Tags = true, []string{"backup:gold"} }},
		"no tags are tags too": {"instance.update", `{"nova_object.name": "InstanceUpdatePayload", "nova_object.version": "1.9", "nova_object.data": {` + ids + `, "tags": []}}`,
			func(i *Instance) { i.HasTags, i.Tags = true, []string{} }},
		"a swap names the new volume": {"instance.volume_swap.end", object("1.8", ids+`, "old_volume_id": "`+server+`", "new_volume_id": "`+volume+`"`),
			func(i *Instance) { i.VolumeChange, i.Volume = true, volume }},
		"a volume that is no id is left out": {"compute.instance.volume.attach", fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q, "volume_id": "../x"}`, server, project),
			func(i *Instance) { i.VolumeChange = true }},
		"a deletion without a host": {"compute.instance.force_delete.end", fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q}`, server, project),
			func(i *Instance) { i.Deleted = true }},
		"soft-deleted is not gone": {"instance.soft_delete.end", object("1.8", ids+`, "state": "soft-delete"`),
			func(i *Instance) { i.State, i.OldState = "soft-delete", "soft-delete" }},
	} {
		want := base
		want.Event = c.typ
		c.want(&want)
		got, err := DecodeInstance(events.Event{Type: c.typ, At: at, Data: json.RawMessage(c.data)})
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", sentence, d)
		}
	}
}

func TestDecodeInstanceRefuses(t *testing.T) {
	const secret = "gAAAAABsecret"
	for sentence, c := range map[string]struct{ typ, data string }{
		"a volume's notification":   {"volume.attach.end", `{}`},
		"a flavor's":                {"flavor.create", `{}`},
		"no payload":                {"instance.update", ``},
		"null":                      {"compute.instance.update", `null`},
		"a list":                    {"compute.instance.update", `["` + secret + `"]`},
		"no ids":                    {"compute.instance.update", `{"token": "` + secret + `"}`},
		"an id that is a number":    {"compute.instance.update", `{"instance_id": 123456789123456789}`},
		"an id that is a path":      {"compute.instance.update", `{"instance_id": "../../` + secret + `", "tenant_id": "` + project + `"}`},
		"an id with a line break":   {"compute.instance.update", `{"instance_id": "` + server + `\n", "tenant_id": "` + project + `"}`},
		"an id without hyphens":     {"compute.instance.update", `{"instance_id": "` + project + `", "tenant_id": "` + project + `"}`},
		"no project":                {"compute.instance.update", `{"instance_id": "` + server + `"}`},
		"a project with a brace":    {"compute.instance.update", `{"instance_id": "` + server + `", "tenant_id": "{176721179d74e6b9f16b23e2bb580a3"}`},
		"an opaque one without id":  {"instance.update", `{"nova_object.version": "9.0", "nova_object.data": {"id": "` + secret + `"}}`},
		"a versioned one of a list": {"instance.update", `{"nova_object.version": "1.0", "nova_object.data": ["` + secret + `"]}`},
	} {
		i, err := DecodeInstance(events.Event{Type: c.typ, Data: json.RawMessage(c.data)})
		if err == nil {
			t.Errorf("%s: decoded to %+v", sentence, i)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes the payload: %v", sentence, err)
		}
	}
}

func FuzzDecodeInstance(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		e := capture(f, file)
		f.Add(e.Type, []byte(e.Data))
	}
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		i, err := DecodeInstance(events.Event{Type: typ, Data: data})
		again, errAgain := DecodeInstance(events.Event{Type: typ, Data: rewritten(data)})
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("%v; as encoding/json reads and writes it: %v", err, errAgain)
		}
		if err != nil {
			if len(err.Error()) > 200 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if d := cmp.Diff(again, i, cmpopts.IgnoreFields(Instance{}, "Metadata")); d != "" { // see wire.FuzzMetadata
			t.Fatalf("otherwise than encoding/json (-want +got):\n%s", d)
		}
		if id, ok := wire.ResourceID(i.ID); !ok || id != i.ID {
			t.Fatalf("id %q", i.ID)
		}
		if id, ok := wire.ProjectID(i.Project); id != i.Project || !ok && !i.Opaque {
			t.Fatalf("project %q", i.Project)
		}
		if id, _ := wire.ResourceID(i.Volume); id != i.Volume {
			t.Fatalf("volume %q", i.Volume)
		}
		if (i.Metadata != nil) != i.HasMetadata {
			t.Fatalf("metadata %v, has it: %t", i.Metadata, i.HasMetadata)
		}
	})
}

// rewritten is a document as encoding/json reads it and writes it again; what it
// cannot read stays.
func rewritten(doc []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if !json.Valid(doc) || d.Decode(&v) != nil {
		return doc
	}
	again, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return again
}

func BenchmarkDecodeInstance(b *testing.B) {
	e := capture(b, "testdata/nova.compute.instance.update.nova-metadata-set.json")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeInstance(e); err != nil {
			b.Fatal(err)
		}
	}
}

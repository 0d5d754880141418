package cinder

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

	"staffeln/events"
	"staffeln/events/oslo"
	"staffeln/events/wire"
)

var update = flag.Bool("update", false, "write the golden file anew")

// Every capture of a volume or backup is decoded, and stays decoded as it is.
func TestCaptures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d captures, %v", len(files), err)
	}
	var b strings.Builder
	seen := map[string]bool{}
	for _, file := range files {
		e := capture(t, file)
		seen[e.Type] = true
		var v any
		var err error
		switch kind, _, _ := strings.Cut(e.Type, "."); kind {
		case "volume":
			v, err = DecodeVolume(e)
		case "backup":
			v, err = DecodeBackup(e)
		default:
			if _, err := DecodeVolume(e); err == nil {
				t.Errorf("%s: a %s is taken for a volume", file, kind)
			}
			if _, err := DecodeBackup(e); err == nil {
				t.Errorf("%s: a %s is taken for a backup", file, kind)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		line, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n\t%s\n", filepath.Base(file), line)
	}
	const golden = "testdata/decoded.golden"
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
		t.Errorf("decoded otherwise than before (-want +got); if that is right: go test ./events/cinder -update\n%s", d)
	}
	for _, typ := range slices.Concat(VolumeTypes, BackupTypes) {
		if !seen[typ] && typ != "volume.transfer.accept.end" { // made by hand below
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

const (
	volumeID = "e928004d-7602-4c40-a4a9-d3346d78ec7b"
	backupID = "9988b961-d688-430e-b53d-e35d8682bf02"
	serverID = "ef821e4c-ab20-4166-b0ce-f518d0f7e79a"
	project  = "1176721179d74e6b9f16b23e2bb580a3"
)

func TestDecodeVolume(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	attachment := func(server, status string, deleted bool) string {
		return fmt.Sprintf(`{"instance_uuid": %q, "attach_status": %q, "deleted": %t}`, server, status, deleted)
	}
	for sentence, c := range map[string]struct {
		typ, fields string
		want        func(*Volume)
	}{
		"a volume of another project now": {"volume.transfer.accept.end", `"status": "available", "size": 3, "display_name": "x", "metadata": [], "volume_attachment": []`,
			func(v *Volume) {
				v.Status, v.Size, v.Name = "available", 3, "x"
				v.HasMetadata, v.Metadata, v.HasServers = true, map[string]string{}, true
			}},
		"metadata as a list of pairs": {"volume.update.end", `"metadata": [{"key": "skip-volume-backup", "value": "true", "id": 7}]`,
			func(v *Volume) { v.HasMetadata, v.Metadata = true, map[string]string{"skip-volume-backup": "true"} }},
		"metadata as an object": {"volume.update.end", `"metadata": {"a": "b", "n": 1}`,
			func(v *Volume) { v.HasMetadata, v.Metadata = true, map[string]string{"a": "b", "n": "1"} }},
		"metadata that cannot be read is not empty metadata": {"volume.update.end", `"metadata": "{}"`, func(*Volume) {}},
		"nor is that of pairs without a key":                 {"volume.update.end", `"metadata": [{"value": "b"}]`, func(*Volume) {}},
		"only servers that have it": {"volume.attach.end", `"volume_attachment": [` + strings.Join([]string{
			attachment(serverID, "attached", false), attachment(serverID, "attached", false), attachment(backupID, "reserved", false),
			attachment(backupID, "attached", true), attachment("no-id", "attached", false)}, ",") + `]`,
			func(v *Volume) { v.HasServers, v.Servers = true, []string{serverID} }},
		"the backend without the pool":           {"volume.update.end", `"host": "host@ceph#pool"`, func(v *Volume) { v.Backend = "host@ceph" }},
		"nothing but null":                       {"volume.update.end", `"display_name": null, "size": null, "host": null, "metadata": null, "volume_attachment": null, "status": null`, func(*Volume) {}},
		"a volume that is gone":                  {"volume.delete.end", `"status": "deleting"`, func(v *Volume) { v.Status, v.Deleted = "deleting", true }},
		"a volume that was resized, by another ": {"volume.resize.end", `"size": 20`, func(v *Volume) { v.Size = 20 }},
	} {
		want := Volume{ID: volumeID, Project: project, Event: c.typ, At: at}
		c.want(&want)
		data := fmt.Sprintf(`{"volume_id": %q, "tenant_id": %q, %s}`, volumeID, project, c.fields)
		got, err := DecodeVolume(events.Event{Type: c.typ, At: at, Data: json.RawMessage(data)})
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", sentence, d)
		}
	}
}

func TestDecodeBackup(t *testing.T) {
	data := func(fields string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"backup_id": %q, "tenant_id": %q, %s}`, backupID, project, fields))
	}
	base := Backup{ID: backupID, Project: project}
	for sentence, c := range map[string]struct {
		typ, fields string
		want        func(*Backup)
	}{
		"one that failed says why": {"backup.create.end", `"status": "error", "fail_reason": "Service not found", "size": 5, "volume_id": "` + volumeID + `"`,
			func(b *Backup) { b.Status, b.FailReason, b.Size, b.Volume = "error", "Service not found", 5, volumeID }},
		"an incremental names its parent": {"backup.create.end", `"status": "available", "parent_id": "` + serverID + `", "num_dependent_backups": 2, "host": "h"`,
			func(b *Backup) { b.Status, b.Parent, b.Dependents, b.Host = "available", serverID, 2, "h" }},
		"one that is gone":                             {"backup.delete.end", `"status": "deleted"`, func(b *Backup) { b.Status, b.Deleted = "deleted", true }},
		"an end of a deletion that is none":            {"backup.delete.end", `"status": "error_deleting"`, func(b *Backup) { b.Status = "error_deleting" }},
		"ids that are none are left out":               {"backup.create.end", `"volume_id": "../x", "parent_id": "x\ny"`, func(*Backup) {}},
		"a volume's size of a backup that has none":    {"backup.create.end", `"size": null, "num_dependent_backups": null, "host": null`, func(*Backup) {}},
		"a backup whose status an administrator reset": {"backup.reset_status.end", `"status": "available"`, func(b *Backup) { b.Status = "available" }},
	} {
		want := base
		want.Event = c.typ
		c.want(&want)
		got, err := DecodeBackup(events.Event{Type: c.typ, Data: data(c.fields)})
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", sentence, d)
		}
	}
}

func TestDecodersRefuse(t *testing.T) {
	const secret = "gAAAAABsecret"
	volume := func(e events.Event) error { _, err := DecodeVolume(e); return err }
	backup := func(e events.Event) error { _, err := DecodeBackup(e); return err }
	for sentence, c := range map[string]struct {
		decode    func(events.Event) error
		typ, data string
	}{
		"no payload":                      {volume, "volume.attach.end", ``},
		"null":                            {volume, "volume.attach.end", `null`},
		"a list":                          {backup, "backup.create.end", `["` + secret + `"]`},
		"a volume without an id":          {volume, "volume.attach.end", `{"tenant_id": "` + project + `"}`},
		"a volume with a path for an id":  {volume, "volume.attach.end", `{"volume_id": "../` + secret + `", "tenant_id": "` + project + `"}`},
		"a volume without a project":      {volume, "volume.attach.end", `{"volume_id": "` + volumeID + `"}`},
		"a project id with a colon":       {volume, "volume.attach.end", `{"volume_id": "` + volumeID + `", "tenant_id": ":176721179d74e6b9f16b23e2bb580a3"}`},
		"a backup for a volume":           {volume, "backup.create.end", `{"volume_id": "` + volumeID + `", "tenant_id": "` + project + `"}`},
		"a volume for a backup":           {backup, "volume.attach.end", `{"backup_id": "` + backupID + `", "tenant_id": "` + project + `"}`},
		"a backup without an id":          {backup, "backup.create.end", `{"tenant_id": "` + project + `", "volume_id": "` + volumeID + `"}`},
		"a backup without a project":      {backup, "backup.create.end", `{"backup_id": "` + backupID + `", "tenant_id": null}`},
		"a backup with a line in its id":  {backup, "backup.create.end", `{"backup_id": "` + backupID + `\n` + secret + `", "tenant_id": "` + project + `"}`},
		"a backup with an object for one": {backup, "backup.create.end", `{"backup_id": {"x": "` + secret + `"}, "tenant_id": "` + project + `"}`},
	} {
		err := c.decode(events.Event{Type: c.typ, Data: json.RawMessage(c.data)})
		if err == nil {
			t.Errorf("%s: decoded", sentence)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes the payload: %v", sentence, err)
		}
	}
}

// A value of an unexpected type leaves a hint to look, as it does for Nova's
// notifications: the message is not set aside as broken.
func TestValuesOfAnotherTypeLeaveAHint(t *testing.T) {
	for _, odd := range []string{`"size": "40"`, `"status": 7`, `"display_name": []`, `"host": {}`} {
		ids := `{"volume_id": "` + volumeID + `", "backup_id": "` + backupID + `", "tenant_id": "` + project + `", `
		data := json.RawMessage(ids + odd + `}`)
		v, err := DecodeVolume(events.Event{Type: "volume.delete.end", Data: data})
		wantVolume := Volume{ID: volumeID, Project: project, Event: "volume.delete.end", Deleted: true, Opaque: true}
		if d := cmp.Diff(wantVolume, v); err != nil || d != "" {
			t.Errorf("a volume with %s: %v (-want +got):\n%s", odd, err, d)
		}
		b, err := DecodeBackup(events.Event{Type: "backup.create.end", Data: data})
		wantBackup := Backup{ID: backupID, Project: project, Volume: volumeID, Event: "backup.create.end", Opaque: true}
		if d := cmp.Diff(wantBackup, b); err != nil || d != "" {
			t.Errorf("a backup with %s: %v (-want +got):\n%s", odd, err, d)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		e := capture(f, file)
		f.Add(e.Type, []byte(e.Data))
	}
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		e := events.Event{Type: typ, Data: data}
		v, err := DecodeVolume(e)
		b, err2 := DecodeBackup(e)
		for _, err := range []error{err, err2} {
			if err != nil && len(err.Error()) > 200 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
		}
		if err == nil && err2 == nil {
			t.Fatal("both a volume and a backup")
		}
		ids := v.Servers
		if err == nil {
			ids = append(ids, v.ID)
			if (v.Metadata != nil) != v.HasMetadata {
				t.Fatalf("metadata %v, has it: %t", v.Metadata, v.HasMetadata)
			}
		}
		if err2 == nil {
			ids = append(ids, b.ID)
		}
		for _, id := range append(ids, b.Volume, b.Parent) {
			if again, _ := wire.ResourceID(id); again != id {
				t.Fatalf("id %q", id)
			}
		}
		for _, p := range []string{v.Project, b.Project} {
			if again, _ := wire.ProjectID(p); again != p {
				t.Fatalf("project %q", p)
			}
		}

		e.Data = rewritten(data)
		v2, err3 := DecodeVolume(e)
		b2, err4 := DecodeBackup(e)
		if (err == nil) != (err3 == nil) || (err2 == nil) != (err4 == nil) {
			t.Fatalf("%v, %v; as encoding/json reads and writes it: %v, %v", err, err2, err3, err4)
		}
		v.Metadata, v2.Metadata = nil, nil // see wire.FuzzMetadata
		if d := cmp.Diff([]any{v2, b2}, []any{v, b}); d != "" {
			t.Fatalf("otherwise than encoding/json (-want +got):\n%s", d)
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

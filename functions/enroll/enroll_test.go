package enroll

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/events/cinder"
	"staffeln/events/nova"
	"staffeln/functions/backup"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A standIn is ledger and cloud at once, and writes down what is written to the ledger.
type standIn struct {
	enrolled   map[string]backup.Enrolment // by server
	servers    map[string]backup.Server
	volumes    map[string]backup.Volume
	reconciled time.Time
	excluded   bool
	cloud      error
	lists      int
	done       []string
}

func (s *standIn) did(format string, args ...any) {
	s.done = append(s.done, fmt.Sprintf(format, args...))
}

func (s *standIn) Ticket(context.Context, string) (int64, error) { return 1, nil }

func (s *standIn) Enrolment(_ context.Context, _, id string) (backup.Enrolment, time.Time, bool, error) {
	e, ok := s.enrolled[id]
	return e, time.Time{}, ok, nil
}

func (s *standIn) ServersOf(_ context.Context, _, volume string) (servers []string, err error) {
	for _, id := range slices.Sorted(maps.Keys(s.enrolled)) {
		if slices.Contains(s.enrolled[id].Volumes, volume) {
			servers = append(servers, id)
		}
	}
	return servers, nil
}

func (s *standIn) VolumesOf(context.Context, string, []string) (map[string]backup.Protected, error) {
	return nil, nil
}

func (s *standIn) LastReconciled(context.Context) (time.Time, bool, error) {
	return s.reconciled, true, nil
}

func (s *standIn) Enroll(_ context.Context, _ int64, e backup.Enrolment, volumes []backup.Protected, _ time.Time) (
	backup.Change, error) {
	what := "enroll " + e.Server + " " + e.Class
	if !e.Attempt.None() {
		what += ", an attempt since " + e.Attempt.Since.Format("02T15:04")
	}
	for _, v := range volumes {
		what += " " + v.Volume
	}
	s.did("%s", what)
	return backup.Change{}, nil
}

func (s *standIn) Withdraw(_ context.Context, _ int64, _, server string, _ time.Time) (backup.Change, error) {
	s.did("withdraw %s", server)
	return backup.Change{}, nil
}

func (s *standIn) Project(context.Context, string) (backup.Project, bool, error) {
	return backup.Project{ID: "p1"}, !s.excluded, s.cloud
}

func (s *standIn) Server(_ context.Context, _, id string) (backup.Server, error) {
	return found(s.servers, id)
}

func (s *standIn) Volume(_ context.Context, _, id string) (backup.Volume, error) {
	return found(s.volumes, id)
}

func (s *standIn) Volumes(context.Context, string) ([]backup.Volume, error) {
	s.lists++
	return slices.Collect(maps.Values(s.volumes)), nil
}

func found[T any](all map[string]T, id string) (T, error) {
	t, ok := all[id]
	if !ok {
		return t, &backup.CloudError{Fault: backup.Gone}
	}
	return t, nil
}

// enrolment is what the ledger has of server s1 with the metadata and volumes, "" for nothing.
func enrolment(metadata, volumes string, set backup.Settings) map[string]backup.Enrolment {
	if metadata == "" {
		return nil
	}
	w := backup.ReadWish(pair(metadata), nil, set.Keys, set.Classes)
	return map[string]backup.Enrolment{"s1": {Server: "s1", Name: "web", Project: "p1", Class: w.Class, Words: w.Words,
		Volumes: strings.Fields(volumes)}}
}

func pair(s string) map[string]string {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return map[string]string{}
	}
	return map[string]string{key: value}
}

// A story has server s1 "web" with v1 and v2 in Nova, unless it is gone.
type story struct {
	known   string // the server's metadata as the ledger knows it, "" for not enrolled
	nova    string // as Nova shows it, "gone" for no such server
	locked  bool
	standIn standIn
	log     string
}

func (s *story) function() *Function {
	daily, err := backup.ParseSchedule("daily@02:00")
	lock, err2 := backup.ParseAge("7d")
	if err != nil || err2 != nil {
		panic(fmt.Sprint(err, err2))
	}
	set := backup.Settings{Keys: backup.Keys{OptIn: "backup", Skip: "skip-volume-backup"},
		Classes: backup.Classes{backup.Default: {Class: backup.Default, Schedule: daily}}}
	if s.locked {
		p := set.Classes[backup.Default]
		p.Lock = lock
		set.Classes[backup.Default] = p
	}
	in := &s.standIn
	in.enrolled = enrolment(s.known, "v1", set)
	in.servers, in.volumes = map[string]backup.Server{}, map[string]backup.Volume{}
	if s.nova != "gone" {
		in.servers["s1"] = backup.Server{ID: "s1", Name: "web", Project: "p1", Metadata: pair(s.nova),
			Volumes: []string{"v1", "v2"}}
	}
	for _, id := range []string{"v1", "v2", "v3"} {
		in.volumes[id] = backup.Volume{ID: id, Project: "p1"}
	}
	return &Function{Ledger: in, Cloud: in, Settings: set, Count: func(string, float64, ...string) {},
		Log: slog.New(slog.NewTextHandler(&buffer{&s.log}, nil))}
}

type buffer struct{ to *string }

func (b *buffer) Write(p []byte) (int, error) { *b.to += string(p); return len(p), nil }

// What is written about a server when a notification names it. Which notifications are worth
// reading the server for, and what a lock holds back, is tested in functions/backup.
func TestInstance(t *testing.T) {
	opted := nova.Instance{Metadata: pair("backup=yes"), HasMetadata: true}
	silent := nova.Instance{Metadata: pair(""), HasMetadata: true}
	attach := nova.Instance{Event: "instance.volume_attach.end", VolumeChange: true, Volume: "v2"}
	known := nova.Instance{Event: "instance.volume_attach.end", VolumeChange: true, Volume: "v1"}
	detach := nova.Instance{Event: "instance.volume_detach.end", VolumeChange: true, Volume: "v1"}
	broken := &backup.CloudError{Fault: backup.Operator}
	for _, c := range []struct {
		sentence string
		n        nova.Instance
		story    story
		want     string
	}{
		{"A server opts in", opted, story{nova: "backup=yes"}, "enroll s1 default v1 v2"},
		{"Nova counts, not the notification", opted, story{nova: "backup=no"}, ""},
		{"An enrolled server opts out", silent, story{known: "backup=yes", nova: ""}, "withdraw s1"},
		{"An enrolled server is gone", nova.Instance{Deleted: true}, story{known: "backup=yes", nova: "gone"}, "withdraw s1"},
		{"Another server is gone", opted, story{nova: "gone"}, ""},
		{"A volume is attached", attach, story{known: "backup=yes", nova: "backup=yes"}, "enroll s1 default v1 v2"},
		{"The ledger has the volume already", known, story{known: "backup=yes", nova: "backup=yes"}, ""},
		{"A volume is detached that the ledger has", detach, story{known: "backup=yes", nova: "backup=yes"},
			"enroll s1 default v1 v2"},
		{"The project is excluded", opted, story{nova: "backup=yes", standIn: standIn{excluded: true}}, ""},
		{"The project is gone", opted, story{nova: "backup=yes",
			standIn: standIn{cloud: &backup.CloudError{Fault: backup.Gone}}}, ""},
		{"An operator has to act first: reconcile finds the server", opted,
			story{nova: "backup=yes", standIn: standIn{cloud: broken}}, ""},
		{"A locked class holds a server", silent,
			story{known: "backup=yes", locked: true, standIn: standIn{reconciled: noon.Add(-time.Hour)}},
			"enroll s1 default, an attempt since 22T12:00 v1 v2"},
		{"What the last reconcile did not find was not there then", silent,
			story{known: "backup=yes", locked: true, standIn: standIn{reconciled: noon.Add(time.Hour)}},
			"enroll s1 default, an attempt since 22T13:00 v1 v2"},
		{"While a reconcile is asked for, it says when an attempt began", silent,
			story{known: "backup=yes", locked: true}, ""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			c.n.ID, c.n.Project, c.n.Name, c.n.At = "s1", "p1", "web", noon
			err := c.story.function().Instance(context.Background(), c.n)
			if done := strings.Join(c.story.standIn.done, "; "); err != nil || done != c.want {
				t.Errorf("got %q, %v, want %q", done, err, c.want)
			}
			if len(c.story.standIn.done) > 0 && !strings.Contains(c.story.log, "server=s1 server_name=web") {
				t.Errorf("the log does not name the server: %s", c.story.log)
			}
		})
	}
}

// What becomes of a notification when OpenStack cannot be read.
func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		sentence string
		cloud    *backup.CloudError
		want     events.Outcome
		after    time.Duration
	}{
		{"It comes again", &backup.CloudError{Fault: backup.Retry}, events.Retry, 0},
		{"It comes again when OpenStack says", &backup.CloudError{Fault: backup.Retry, After: time.Minute}, events.Retry,
			time.Minute},
		{"But in ten minutes at the latest", &backup.CloudError{Fault: backup.Retry, After: time.Hour}, events.Retry,
			10 * time.Minute},
		{"It is done with where an operator has to act", &backup.CloudError{Fault: backup.Operator}, events.Done, 0},
	} {
		s := story{nova: "backup=yes", standIn: standIn{cloud: c.cloud}}
		n := nova.Instance{ID: "s1", Project: "p1", Metadata: pair("backup=yes"), HasMetadata: true, At: noon}
		outcome, after := events.Judge(s.function().Instance(context.Background(), n))
		if outcome != c.want || after != c.after {
			t.Errorf("%s: %v after %s", c.sentence, outcome, after)
		}
	}
	s := story{}
	err := s.function().Instance(context.Background(), nova.Instance{ID: "s1", Name: "web"})
	if outcome, _ := events.Judge(err); outcome != events.Dropped || !strings.Contains(err.Error(), "s1 (web)") {
		t.Errorf("without a project: %v", err)
	}
}

func TestVolume(t *testing.T) {
	for _, c := range []struct {
		sentence string
		n        cinder.Volume
		known    string
		want     string
	}{
		{"The server of a changed volume is read", cinder.Volume{ID: "v1"}, "backup=yes", "enroll s1 default v1 v2"},
		{"A volume of no enrolled server is nothing to us", cinder.Volume{ID: "v3"}, "backup=yes", ""},
		{"A server that a volume is new to is read",
			cinder.Volume{ID: "v2", Event: "volume.attach.end", Servers: []string{"s1"}, HasServers: true},
			"backup=yes", "enroll s1 default v1 v2"},
		{"One that has it already is not",
			cinder.Volume{ID: "v1", Event: "volume.attach.end", Servers: []string{"s1"}, HasServers: true}, "backup=yes", ""},
		{"Nor one that is not enrolled",
			cinder.Volume{ID: "v2", Event: "volume.attach.end", Servers: []string{"s1"}, HasServers: true}, "", ""},
	} {
		s := story{known: c.known, nova: "backup=yes"}
		c.n.Project, c.n.At = "p1", noon
		err := s.function().Volume(context.Background(), c.n)
		if done := strings.Join(s.standIn.done, "; "); err != nil || done != c.want {
			t.Errorf("%s: got %q, %v", c.sentence, done, err)
		}
	}
}

// Volumes are read one by one up to two, and more in one list.
func TestVolumesAreReadInTheFewestRequests(t *testing.T) {
	s := story{nova: "backup=yes"}
	f := s.function()
	for n, ids := range [][]string{{"v1"}, {"v1", "gone"}, {"v1", "v2", "gone"}} {
		found, err := f.volumes(context.Background(), "p1", ids)
		if err != nil || s.standIn.lists != n/2 || found["v1"].ID == "" || found["gone"].ID != "" {
			t.Errorf("%v: %v, %v, %d lists", ids, found, err, s.standIn.lists)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime/openstack"
	"staffeln/runtime/process"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// A loss is a cloud that does not show who made a backup, with the service in it.
type loss struct {
	*testing.T
	*world.World
	// environ is that of an operator's shell.
	environ []string
	redis   *services.RedisProcess
	alpha   string
}

func newLoss(t *testing.T, more ...string) *loss {
	t.Helper()
	redis := services.RedisServer(t)
	// The command asks the same cloud by the real clock, whose tokens must not be over.
	w, err := world.New(t.Context(), world.Options{Start: time.Now().Truncate(time.Second), User: "backup-min", Deaf: true,
		Environ: append([]string{"STAFFELN_REDIS_URL=" + redis.URL(), "STAFFELN_BACKUP_PERIOD=12h", "STAFFELN_RETENTION_TIME=1d", "STAFFELN_BRAKE_PERCENT=100"}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &loss{T: t, World: w, redis: redis, alpha: w.Seeded.Projects["alpha"], environ: append([]string{"OS_AUTH_URL=" + w.Cloud.AuthURL(), "OS_USERNAME=backup-min", "OS_PASSWORD=devcloud",
		"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default", "STAFFELN_SHARDS=2", "STAFFELN_REDIS_URL=" + redis.URL()}, more...)}
}

func (l *loss) check(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *loss) pass(d time.Duration) {
	l.Helper()
	l.check(l.Pass(l.Context(), d, 10*time.Minute))
}

// adopt runs the command, and returns what it prints with words for the projects.
func (l *loss) adopt(c adoptCommand) (string, error) {
	l.Helper()
	var out bytes.Buffer
	err := c.print(l.Context(), l.environ, l.Now(), &out)
	text := out.String()
	for name, id := range l.Seeded.Projects {
		text = strings.ReplaceAll(text, id, strings.ToUpper(name))
	}
	return text, err
}

// forge makes a backup as alice of project alpha, with the metadata of another.
func (l *loss) forge(like simcloud.Backup) string {
	l.Helper()
	id, err := backupOfAlice(l.Context(), l.Cloud, l.alpha, like.Volume, maps.Clone(like.Metadata))
	l.check(err)
	l.Cloud.Advance()
	return id
}

// of are the ids of the backups of a volume that are there.
func (l *loss) of(volume string) (ids []string) {
	for _, b := range l.Cloud.Backups() {
		if b.Volume == l.Seeded.Volumes[volume] {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

// unverified are what the ledger last counted, and whether it has a record of a backup.
func (l *loss) unverified() int {
	l.Helper()
	totals, err := l.Home.Ledger.Totals(l.Context())
	l.check(err)
	return totals["unverified"]
}

func (l *loss) recorded(id string) backup.Proof {
	l.Helper()
	r, _, err := l.Home.Ledger.Record(l.Context(), l.alpha, id)
	l.check(err)
	return r.Proof
}

// The whole way: Redis is lost, nothing is removed, the operator adopts, and then the
// old backups go when their time is over.
func TestBackupsAreAdoptedAfterTheLedgerWasLost(t *testing.T) {
	l := newLoss(t)
	l.pass(13 * time.Hour)
	before := l.Cloud.Backups()
	if len(before) < 10 || l.unverified() != 0 {
		t.Fatalf("%d backups, %d of them unverified", len(before), l.unverified())
	}
	lost := l.Now()
	l.check(l.Empty(t.Context()))
	l.pass(time.Hour)
	if n := l.unverified(); n != len(before) {
		t.Fatalf("%d are unverified after the loss, want all %d", n, len(before))
	}

	// Only shown.
	out, err := l.adopt(adoptCommand{AllBefore: lost.Format(time.RFC3339)})
	l.check(err)
	for _, b := range before {
		if !strings.Contains(out, b.ID) {
			t.Errorf("no word of %s in\n%s", b.ID, out)
		}
	}
	for _, want := range []string{`project "alpha" (ALPHA)`, `project "beta" (BETA)`, "Nothing is changed: these " + fmt.Sprint(len(before)) + " would be adopted. Do it with --yes.",
		"What a tenant forged before " + lost.Format(time.RFC3339)} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	l.pass(time.Hour)
	if n := l.unverified(); n != len(before) || l.recorded(before[0].ID) != "" {
		t.Errorf("after having been shown: %d unverified, record %q", n, l.recorded(before[0].ID))
	}

	// One project, by its name.
	out, err = l.adopt(adoptCommand{AllBefore: lost.Format(time.RFC3339), Project: "alpha", Yes: true})
	l.check(err)
	if !strings.Contains(out, "Adopted: ") || strings.Contains(out, "BETA") {
		t.Error(out)
	}
	inAlpha := 0
	for _, b := range before {
		if b.Project == l.alpha {
			inAlpha++
		}
	}
	// Reconcile looks at once, though the list of backups would not be due for hours.
	l.check(l.Step(t.Context(), time.Minute))
	if n := l.unverified(); n != len(before)-inAlpha {
		t.Errorf("%d are unverified a minute later, want those %d of the other projects", n, len(before)-inAlpha)
	}
	if foreign, err := l.Home.Ledger.Foreign(t.Context(), l.alpha); err != nil || len(foreign) != 0 {
		t.Errorf("the digest would tell of %v, %v", foreign, err)
	}

	// They count: retention removes them when their time is over, and those of the
	// others stay.
	l.pass(3 * 24 * time.Hour)
	for _, b := range before {
		if _, _, there := l.Cloud.Backup(b.ID); there == (b.Project == l.alpha) {
			t.Errorf("backup %s of project %s is there: %v", b.ID, b.Project, there)
		}
	}
}

func TestBackupsAreAdoptedByTheirIDs(t *testing.T) {
	l := newLoss(t)
	l.pass(time.Hour)
	all := l.of("web-1-data")
	like, _, _ := l.Cloud.Backup(all[0])
	copied := l.forge(like)
	own := l.forge(simcloud.Backup{Volume: like.Volume})
	l.pass(10 * time.Minute)

	for _, tc := range []struct {
		name string
		c    adoptCommand
		want string
		bad  bool
	}{
		{"one that nobody can tell", adoptCommand{IDs: []string{copied}}, "these 1 would be adopted", false},
		{"in its project", adoptCommand{IDs: []string{copied}, Project: "alpha"}, "these 1 would be adopted", false},
		{"in another project", adoptCommand{IDs: []string{copied}, Project: "beta"}, copied + `: it is of project "alpha" (ALPHA)`, true},
		{"ours", adoptCommand{IDs: []string{all[0]}}, all[0] + ": it is ours already", false},
		{"a tenant's own", adoptCommand{IDs: []string{own}}, own + ": it does not carry the metadata of an automated backup", true},
		{"one that is not there", adoptCommand{IDs: []string{"8bd2b617-daa5-4aa3-b199-e5d6bad361fb"}}, "8bd2b617-daa5-4aa3-b199-e5d6bad361fb: there is none", true},
		{"no id", adoptCommand{IDs: []string{"../x\x1b[2J"}}, "../x\uFFFD[2J: ", true},
		{"one that is good beside one that is not", adoptCommand{IDs: []string{own, copied}}, "these 1 would be adopted", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := l.adopt(tc.c)
			if !strings.Contains(out, tc.want) || (err != nil) != tc.bad {
				t.Errorf("%v\n%s\nwant %q", err, out, tc.want)
			}
		})
	}
	if p := l.recorded(copied); p != "" {
		t.Errorf("shown only, and recorded as %q", p)
	}
	if _, err := l.adopt(adoptCommand{IDs: []string{copied}, Yes: true}); err != nil {
		t.Error(err)
	}
	if p := l.recorded(copied); p != backup.ByOperator {
		t.Errorf("recorded as %q", p)
	}
	if out, err := l.adopt(adoptCommand{IDs: []string{copied}, Yes: true}); err != nil || !strings.Contains(out, copied+": it is ours already") {
		t.Errorf("again: %v, %s", err, out)
	}
	// What reconcile sees of it later does not take the operator's word away.
	l.pass(7 * time.Hour)
	if p := l.recorded(copied); p != backup.ByOperator {
		t.Errorf("recorded as %q later", p)
	}
}

// Cinder's word on who made a backup stands against an operator's.
func TestWhatCinderSaysSomebodyElseMadeIsNotAdopted(t *testing.T) {
	l := newLoss(t)
	l.pass(time.Hour)
	like, _, _ := l.Cloud.Backup(l.of("web-1-data")[0])
	copied := l.forge(like)
	l.pass(10 * time.Minute)
	l.check(l.Cloud.SetPolicy(`"backup:backup_project_attribute": "rule:admin_api or user_id:` + l.Seeded.Users["backup-min"] + `"`))
	alice := l.Seeded.Users["alice"]
	refused := copied + ": Cinder says that user " + alice + " made it: if that user is the service's, add it to STAFFELN_POLICY_USERS"
	out, err := l.adopt(adoptCommand{IDs: []string{copied}, Yes: true})
	if err == nil || !strings.Contains(out, refused) || !strings.Contains(out, "There is nothing to adopt.") {
		t.Errorf("%v\n%s", err, out)
	}
	// Among all before a time it is told, and is no fault of the command's.
	out, err = l.adopt(adoptCommand{AllBefore: l.Now().Format(time.RFC3339), Yes: true})
	if err != nil || !strings.Contains(out, refused) {
		t.Errorf("%v\n%s", err, out)
	}
	if p := l.recorded(copied); p != "" {
		t.Errorf("recorded as %q", p)
	}
	// As the message says, it is ours once that user is.
	l.environ = append(l.environ, "STAFFELN_POLICY_USERS="+alice)
	if out, err = l.adopt(adoptCommand{IDs: []string{copied}}); err != nil || !strings.Contains(out, "it is ours already") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAdoptionAsJSON(t *testing.T) {
	l := newLoss(t)
	l.pass(time.Hour)
	like, _, _ := l.Cloud.Backup(l.of("web-1-data")[0])
	copied := l.forge(like)
	out, err := l.adopt(adoptCommand{IDs: []string{copied, like.ID}, JSON: true})
	l.check(err)
	var got adoption
	l.check(json.Unmarshal([]byte(out), &got))
	if got.Adopted || len(got.Backups) != 1 || len(got.Refused) != 1 {
		t.Fatalf("%s", out)
	}
	b := got.Backups[0]
	if b.Backup != copied || b.Project != "ALPHA" || b.ProjectName != "alpha" || b.Volume != like.Volume || b.Class != backup.Default || b.Slot.IsZero() || b.Created.IsZero() || b.Size != 1 {
		t.Errorf("%+v", b)
	}
	if got.Refused[0] != (refusal{like.ID, "it is ours already"}) {
		t.Errorf("%+v", got.Refused[0])
	}
}

func TestWhatAdoptDoesNotUnderstand(t *testing.T) {
	l := newLoss(t)
	for _, tc := range []struct {
		name string
		c    adoptCommand
		want string
	}{
		{"nothing named", adoptCommand{}, "name backups by their ids, or all before a time"},
		{"both", adoptCommand{IDs: []string{"x"}, AllBefore: "2026-11-22"}, "and not both"},
		{"no time", adoptCommand{AllBefore: "yesterday"}, "is not a time: want RFC 3339"},
		{"a time to come", adoptCommand{AllBefore: "9999-01-01"}, "is still to come"},
		{"no such project", adoptCommand{AllBefore: "2020-01-01", Project: "nobody"}, `project "nobody": there is none`},
	} {
		if _, err := l.adopt(tc.c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if out, err := l.adopt(adoptCommand{AllBefore: "2020-01-01"}); err != nil || !strings.Contains(out, "There is nothing to adopt.") {
		t.Errorf("%v, %s", err, out)
	}
	l.environ = slices.DeleteFunc(l.environ, func(s string) bool { return strings.HasPrefix(s, "STAFFELN_REDIS_URL=") })
	if _, err := l.adopt(adoptCommand{IDs: []string{"x"}}); err == nil || !strings.Contains(err.Error(), "STAFFELN_REDIS_URL is not set") {
		t.Error(err)
	}
}

// Where Cinder does not show who made a backup, a plan goes by the ledger's word, and
// without one by the backups' metadata, and says so.
func TestPlanWhereMakersAreHidden(t *testing.T) {
	l := newLoss(t)
	l.pass(time.Hour)
	like, _, _ := l.Cloud.Backup(l.of("web-1-data")[0])
	copied := l.forge(like)
	const alone = "count as automated here by their metadata alone"
	plan := func() (out string) {
		t.Helper()
		var b bytes.Buffer
		l.check(planCommand{All: true}.print(t.Context(), l.environ, l.Now(), &b))
		return strings.Join(strings.Fields(b.String()), " ")
	}
	if out := plan(); strings.Contains(out, alone) || !strings.Contains(out, "backup "+copied[:8]+", unverified") || strings.Count(out, "unverified") != 1 {
		t.Errorf("with the ledger: %s", out)
	}
	l.redis.Stop()
	if out := plan(); !strings.Contains(out, alone) || !strings.Contains(out, "The ledger was not to be read") || strings.Contains(out, "unverified") {
		t.Errorf("with one that is down: %s", out)
	}
	l.environ = slices.DeleteFunc(l.environ, func(s string) bool { return strings.HasPrefix(s, "STAFFELN_REDIS_URL=") })
	if out := plan(); !strings.Contains(out, alone) || !strings.Contains(out, "No ledger was asked") || strings.Contains(out, "unverified") {
		t.Errorf("without: %s", out)
	}
}

// backupOfAlice makes a backup as alice, a member of project alpha.
func backupOfAlice(ctx context.Context, c *simcloud.Cloud, alpha, volume string, metadata map[string]string) (string, error) {
	s, err := process.Read([]string{"OS_AUTH_URL=" + c.AuthURL(), "OS_USERNAME=alice", "OS_PASSWORD=devcloud",
		"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"})
	if err != nil {
		return "", err
	}
	alice, err := openstack.Connect(ctx, s.CloudOptions(warnings()))
	if err != nil {
		return "", err
	}
	return alice.CreateBackup(ctx, alpha, backup.Request{Volume: volume, Name: "hers", Metadata: metadata})
}

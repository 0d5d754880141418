package openstack

import (
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
)

// connectAs connects to the simulated cloud as one of its service users: "backup-svc",
// an admin, or "backup-min", with the least rights.
func connectAs(t *testing.T, cloud *simcloud.Cloud, user string) *Cloud {
	t.Helper()
	environ := map[string]string{"OS_USERNAME": user, "OS_AUTH_URL": cloud.AuthURL(), "OS_PASSWORD": simcloud.Password, "OS_USER_DOMAIN_NAME": "Default"}
	if user == "backup-svc" {
		environ["OS_PROJECT_NAME"], environ["OS_PROJECT_DOMAIN_NAME"] = "service", "Default"
	}
	o, err := FromEnv(func(name string) (string, bool) { v, ok := environ[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A project is deleted and leaves its backups, which nobody gets a token for any
// more: an admin's own token lists, shows and removes them. Nothing is made there,
// for it would be the home project's.
func TestWhatADeletedProjectHasLeft(t *testing.T) {
	cloud, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	seeded := cloud.Seed()
	admin := connectAs(t, cloud, "backup-svc")
	least := connectAs(t, cloud, "backup-min")
	alpha, volume, ctx := seeded.Projects["alpha"], seeded.Volumes["web-1-data"], t.Context()
	var made []string
	for _, v := range []string{volume, seeded.Volumes["db-1-data"]} {
		id, err := admin.CreateBackup(ctx, alpha, backup.Request{Volume: v, Name: "x", Metadata: map[string]string{backup.MetaAutomated: "True"}})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, id)
	}
	if _, err := admin.CreateBackup(ctx, seeded.Projects["beta"], backup.Request{Volume: seeded.Volumes["app-1-data"], Name: "another's"}); err != nil {
		t.Fatal(err)
	}
	cloud.DeleteServer(seeded.Servers["web-1"])
	cloud.DeleteProject(alpha)
	cloud.RevokeTokens("")

	list := func(of string) (ids []string) {
		t.Helper()
		all, err := admin.BackupsOf(ctx, alpha, of, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range all {
			if ids = append(ids, b.ID); b.Project != alpha {
				t.Errorf("backup %s is said to be of project %s", b.ID, b.Project)
			}
		}
		slices.Sort(ids)
		return ids
	}
	slices.Sort(made)
	if got := list(""); !slices.Equal(got, made) {
		t.Errorf("listed %q, want %q", got, made)
	}
	if got := list(volume); len(got) != 1 {
		t.Errorf("of one volume: %q", got)
	}
	if b, err := admin.Backup(ctx, alpha, made[0]); err != nil || b.ID != made[0] || b.Project != alpha {
		t.Errorf("shown: %+v, %v", b, err)
	}
	if _, err := admin.Volume(ctx, alpha, volume); err != nil {
		t.Errorf("its volume: %v", err)
	}
	_, err = admin.Server(ctx, alpha, seeded.Servers["web-1"])
	wantFault(t, err, backup.Gone)
	_, err = admin.CreateBackup(ctx, alpha, backup.Request{Volume: volume, Name: "x"})
	if e := wantFault(t, err, backup.Operator); e.Op != opAuthenticate || !strings.Contains(e.Message, "deleted") {
		t.Errorf("a new backup: %v", err)
	}
	if err := admin.DeleteBackup(ctx, alpha, made[0]); err != nil {
		t.Errorf("deleted: %v", err)
	}
	_, err = admin.Backup(ctx, alpha, made[0])
	wantFault(t, err, backup.Gone)

	// With the least rights nobody can, and it is the operator's.
	_, err = least.BackupsOf(ctx, alpha, "", time.Time{})
	wantFault(t, err, backup.Operator)
	wantFault(t, least.DeleteBackup(ctx, alpha, made[1]), backup.Operator)
	// One that is only disabled is no deleted one.
	cloud.SetProjectEnabled(seeded.Projects["beta"], false)
	cloud.RevokeTokens("")
	_, err = admin.BackupsOf(ctx, seeded.Projects["beta"], "", time.Time{})
	wantFault(t, err, backup.Operator)
}

// OpenStack shows an admin's token what all projects have. What another project has is
// not there for whoever asks with this one's name, whatever the rights.
func TestWhatIsAnotherProjectsIsNotThere(t *testing.T) {
	cloud, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	seeded := cloud.Seed()
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			c := connectAs(t, cloud, user)
			if s, err := c.Server(t.Context(), seeded.Projects["alpha"], seeded.Servers["web-1"]); err != nil || s.Project != seeded.Projects["alpha"] {
				t.Errorf("in its own project: %+v, %v", s, err)
			}
			_, err := c.Server(t.Context(), seeded.Projects["beta"], seeded.Servers["web-1"])
			wantFault(t, err, backup.Gone)

			volume := seeded.Volumes["web-1-data"]
			if v, err := c.Volume(t.Context(), seeded.Projects["alpha"], volume); err != nil || v.Project != seeded.Projects["alpha"] {
				t.Errorf("in its own project: %+v, %v", v, err)
			}
			_, err = c.Volume(t.Context(), seeded.Projects["beta"], volume)
			wantFault(t, err, backup.Gone)

			id, err := c.CreateBackup(t.Context(), seeded.Projects["alpha"], backup.Request{Volume: volume, Name: user})
			if err != nil {
				t.Fatal(err)
			}
			cloud.Advance()
			if b, err := c.Backup(t.Context(), seeded.Projects["alpha"], id); err != nil || b.Project != seeded.Projects["alpha"] {
				t.Errorf("in its own project: %+v, %v", b, err)
			}
			_, err = c.Backup(t.Context(), seeded.Projects["beta"], id)
			wantFault(t, err, backup.Gone)
		})
	}
}

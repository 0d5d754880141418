package behaviour

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every rule of the role's is one of the files', and none is about deleting: that is by
// the user's id, so that the check of protected backups is not passed over.
func TestTheRolesFilesDoNotDelete(t *testing.T) {
	for _, path := range []string{"nova/staffeln.yaml", "cinder/role.yaml", "keystone/staffeln.yaml"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "infra", path))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			if bytes.HasPrefix(line, []byte(`"`)) && bytes.Contains(line, []byte("delete")) {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
}

// Each of Cinder's files shows the service who made a backup, and admins as before: one
// without the line would leave the service blind. What Cinder makes of it is tried with
// oslo.policy itself in functions/policy, and on a real Cinder in testutil/contract.
func TestCindersFilesShowWhoMadeABackup(t *testing.T) {
	for name, want := range map[string]string{
		"staffeln.yaml":          `"backup:backup_project_attribute": "rule:admin_api or user_id:STAFFELN_USER"`,
		"staffeln-any-role.yaml": `"backup:backup_project_attribute": "rule:admin_api or user_id:STAFFELN_USER"`,
		"role.yaml":              `"backup:backup_project_attribute": "rule:admin_api or role:staffeln"`,
	} {
		content, err := os.ReadFile(filepath.Join("..", "..", "infra", "cinder", name))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(content)) {
			if strings.HasPrefix(line, `"backup:backup_project_attribute"`) {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}

package behaviour

import (
	"bytes"
	"os"
	"path/filepath"
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

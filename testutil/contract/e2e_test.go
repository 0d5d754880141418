//go:build e2e

package contract

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write down what the real cloud answers")

// The steps hold on a real OpenStack. STAFFELN_DEVCLOUD is its Keystone's
// address, http://127.0.0.1:5000/v3 for the devcloud.
func TestRealCloud(t *testing.T) {
	url := os.Getenv("STAFFELN_DEVCLOUD")
	if url == "" {
		t.Fatal("STAFFELN_DEVCLOUD is not set: the address of a seeded devcloud's Keystone")
	}
	seen := Run(t, Target{AuthURL: url, Password: "devcloud", Client: &http.Client{Timeout: time.Minute},
		Tick: func() { time.Sleep(200 * time.Millisecond) }, Host: "devcloud", MayBeLate: true})
	if !*update || t.Failed() {
		return
	}
	// What came too late this time is kept as it was.
	if raw, err := os.ReadFile(record); err == nil {
		var before map[string]any
		if err := json.Unmarshal(raw, &before); err != nil {
			t.Fatal(err)
		}
		for _, st := range steps {
			if seen[st.say] == nil && before[st.say] != nil {
				seen[st.say] = before[st.say]
			}
		}
	}
	out, err := json.MarshalIndent(seen, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

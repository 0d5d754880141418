package contract

import (
	"encoding/json"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/testutil/simcloud"
)

// record is what OpenStack Zed answered, by sentence.
const record = "testdata/zed.json"

// The simulated cloud answers every step as OpenStack Zed did when it was asked,
// down to the last member of the JSON.
func TestSimulation(t *testing.T) {
	var passed atomic.Int64 // seconds
	const second = time.Second
	cloud, err := simcloud.Start(simcloud.Options{
		Now:         func() time.Time { return time.Date(2026, 11, 22, 12, 0, int(passed.Load()), 0, time.UTC) },
		BackupTime:  func(simcloud.Volume, bool) time.Duration { return 3 * second },
		RestoreTime: func(simcloud.Backup) time.Duration { return 3 * second },
		DeleteTime:  2 * second, SettleTime: second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	cloud.Seed()
	got := Run(t, Target{AuthURL: cloud.AuthURL(), Password: simcloud.Password, Client: http.DefaultClient,
		Tick: func() { passed.Add(1) }, Host: "sim",
		Policy: func(t *testing.T, file string) func() {
			set := func(file string) {
				if err := cloud.SetPolicy(file); err != nil {
					t.Fatal(err)
				}
			}
			set(file)
			return func() { set("") }
		}})

	raw, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for _, st := range steps {
		if want[st.say] == nil {
			t.Errorf("%s: not in %s; run the steps on the real cloud with -update", st.say, record)
			continue
		}
		if diff := cmp.Diff(want[st.say], parse(string(encode(got[st.say])))); diff != "" {
			t.Errorf("%s (-real +simulated):\n%s", st.say, diff)
		}
	}
}

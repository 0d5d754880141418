package backup

import (
	"strings"
	"testing"
	"time"
)

func TestATenantsScheduleIsNotMoreFrequentThanAllowed(t *testing.T) {
	keys := Keys{OptIn: "backup", Schedule: "backup-schedule", Overrides: true, MinPeriod: time.Hour}
	for _, tc := range []struct{ name, schedule, want, problem string }{
		{"an hour is the least allowed", "1h", "1h", ""},
		{"a second is refused, and the class's own counts", "1s", "", "more frequent than every 1h0m0s"},
		{"so is a cron line that comes every ten minutes", "*/10 * * * *", "", "more frequent than every 1h0m0s"},
		{"and one that comes twice in a row once a day", "0,30 2 * * *", "", "more frequent than every 1h0m0s"},
		{"once a day is fine", "daily@02:30", "daily@02:30", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := ReadWish(map[string]string{"backup": "yes", "backup-schedule": tc.schedule}, nil, keys, Classes{Default: {}})
			if !w.In || w.Schedule != tc.want || tc.problem == "" != (len(w.Problems) == 0) {
				t.Fatalf("in %v, schedule %q, problems %q", w.In, w.Schedule, w.Problems)
			}
			if tc.problem != "" && !strings.Contains(w.Problems[0], tc.problem) {
				t.Errorf("problem %q, want %q in it", w.Problems[0], tc.problem)
			}
		})
	}
}

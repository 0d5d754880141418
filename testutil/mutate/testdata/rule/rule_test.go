package rule

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// It does not ask about exactly two days, nor why what stays does.
func TestOld(t *testing.T) {
	for age, want := range map[time.Duration]bool{47 * time.Hour: false, 49 * time.Hour: true} {
		if old, why := Old(noon, noon.Add(age), 3, 3); old != want || why != "by its age" {
			t.Errorf("after %s: %v, %s", age, old, why)
		}
	}
	if old, _ := Old(noon, noon.Add(999*time.Hour), 2, 3); old {
		t.Error("one of the last goes")
	}
}

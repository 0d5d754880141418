package home

import (
	"strings"
	"testing"

	"staffeln/functions/backup"
)

var credentials = []string{"OS_AUTH_URL=http://127.0.0.1:5000/v3", "OS_USERNAME=backup", "OS_PASSWORD=marked-secret",
	"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_NAME=service", "OS_PROJECT_DOMAIN_NAME=Default"}

func TestReadComplainsOfEverythingAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name    string
		environ []string
		want    []string
	}{
		{"nothing at all is missing its credentials", nil, []string{"OS_AUTH_URL"}},
		{"ours and OpenStack's together", []string{"STAFFELN_BACKUP_PERIOD=often", "STAFFELN_SHARDS=0", "OS_PASSWORD=marked-secret"},
			[]string{"STAFFELN_BACKUP_PERIOD", "often", "STAFFELN_SHARDS", "OS_AUTH_URL"}},
		{"a name misspelt", append([]string{"STAFFELN_BACKUP_PEROID=1h"}, credentials...), []string{"STAFFELN_BACKUP_PEROID", "STAFFELN_BACKUP_PERIOD"}},
		{"a cluster without hosts", append([]string{"STAFFELN_REDIS_URL=redis+cluster://:marked-secret@"}, credentials...), []string{"STAFFELN_REDIS_URL"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Read(tc.environ)
			if err == nil {
				t.Fatal("no complaint")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no word of %s in:\n%v", w, err)
				}
			}
			if strings.Contains(err.Error(), "marked-secret") {
				t.Errorf("a secret is told:\n%v", err)
			}
		})
	}
}

func TestClassesInheritTheDefault(t *testing.T) {
	s, err := Read(append([]string{"STAFFELN_TIME_ZONE=Europe/Berlin", "STAFFELN_CLASS_GOLD_PERIOD=1h", "STAFFELN_RETENTION_TIME=2w",
		"STAFFELN_REDIS_URL=redis+sentinel://mymaster@one:26379,two:26379/0"}, credentials...))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Policies()
	gold, plain := p["gold"], p[backup.Default]
	if gold.Schedule.String() != "1h" || gold.Retention.String() != "2w" || gold.Schedule.Zone().String() != "Europe/Berlin" || gold.Class != "gold" {
		t.Errorf("gold is %+v", gold)
	}
	if plain.Schedule.String() != "24h" || plain.Depth != 6 || plain.Class != backup.Default {
		t.Errorf("the default is %+v", plain)
	}
}

package config

// removed are the settings of earlier versions, without [Prefix], and what is in force
// in their place. One that is still set is a complaint: its value would not count.
var removed = map[string]string{
	"DISPATCH_INTERVAL":   "due volumes are looked for every 5s",
	"TRACK_INTERVAL":      "open runs are looked at every 5s",
	"RETENTION_INTERVAL":  "projects with old backups are looked for every 5s",
	"REPORT_INTERVAL":     "due digests are looked for every 30s",
	"REPORT_PATIENCE":     "a digest waits 2h for open runs and for retention",
	"MAIL_TIMEOUT":        "sending one mail may take 30s",
	"RUNNING_PER_SERVICE": "10 backups run for each cinder-backup service, and MAX_RUNNING bounds all of them",
	"POLICY_RATE":         "the policy check looks up 50 backups a second",
	"OPERATOR_TOKEN":      "`staffeln plan --backup ID` says why a backup is protected",
	"AMQP_PREFETCH":       "300 messages are under way at once",
	"AMQP_TTL":            "a message waits 24h; a queue that exists keeps its own limit until it is deleted",
}

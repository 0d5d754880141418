package contract

// Who made the two backups of the steps about that, and where an answer tells it.
const (
	bothMakers = `{"backups": [
		{"id": "{genuine}", "user_id": "{min-user}", "os-backup-project-attr:project_id": "{project}"},
		{"id": "{forged}", "user_id": "{member-user}", "os-backup-project-attr:project_id": "{project}"}]}`
	bothOwners = `{"backups": [
		{"id": "{genuine}", "os-backup-project-attr:project_id": "{project}"},
		{"id": "{forged}", "os-backup-project-attr:project_id": "{project}"}]}`
)

var (
	users  = []string{"backups/0/user_id", "backups/1/user_id"}
	makers = append([]string{"backups/0/os-backup-project-attr:project_id",
		"backups/1/os-backup-project-attr:project_id"}, users...)
	maker = []string{"backup/user_id", "backup/os-backup-project-attr:project_id"}
)

// makerSteps are about who made a backup, and what is over quota.
var makerSteps = []step{
	// Who made a backup. Cinder tells it to whom its policy lets, by default to admins.
	{say: "a tenant makes a backup with the service's metadata, at the first version that has any", as: "member",
		ask: "POST volume /backups", version: "3.43",
		body: `{"backup": {"volume_id": "{spare}", "name": "forged", "metadata": {"__automated_backup": "True", ` +
			`"__staffeln_run": "{spare}/1", "__staffeln_retention": "1h"}}}`, want: 202, keep: "forged=backup/id"},
	{say: "and has it, with all of that", as: "member", ask: "GET volume /backups/{forged}", want: 200,
		until: `{"backup": {"status": "available"}}`, via: "creating",
		has: `{"backup": {"metadata": {"__automated_backup": "True", "__staffeln_run": "{spare}/1", ` +
			`"__staffeln_retention": "1h"}}}`},
	{say: "the service makes one with the same", later: true, as: "min", ask: "POST volume /backups", want: 202,
		keep: "genuine=backup/id",
		body: `{"backup": {"volume_id": "{spare}", "name": "genuine", "metadata": {"__automated_backup": "True", ` +
			`"__staffeln_run": "{spare}/1", "__staffeln_retention": "1h"}}}`},
	{say: "which is made as well", as: "min", ask: "GET volume /backups/{genuine}", want: 200,
		until: `{"backup": {"status": "available"}}`, via: "creating"},
	{say: "a list does not show a tenant who made them", as: "member",
		ask: "GET volume /backups/detail?volume_id={spare}", version: "3.56", want: 200,
		has: `{"backups": [{"id": "{genuine}"}, {"id": "{forged}"}]}`, lacks: makers},
	{say: "nor who made one, though it was the tenant", as: "member", ask: "GET volume /backups/{forged}",
		version: "3.56", want: 200, lacks: maker},
	{say: "nor does it show a service with the least rights", as: "min",
		ask: "GET volume /backups/detail?volume_id={spare}", version: "3.56", want: 200,
		has: `{"backups": [{"id": "{genuine}"}, {"id": "{forged}"}]}`, lacks: makers},
	{say: "nor at the newest version", as: "min", ask: "GET volume /backups/{genuine}", version: "3.70", want: 200,
		lacks: maker},
	{say: "an admin is shown who made them", as: "svc", ask: "GET volume /backups/detail?volume_id={spare}",
		version: "3.56", want: 200, has: bothMakers},
	{say: "an admin is not shown it before 3.56", as: "svc", ask: "GET volume /backups/detail?volume_id={spare}",
		version: "3.55", want: 200, has: bothOwners, lacks: users},
	{say: "with a line of Cinder's policy so is the service",
		policy: `"backup:backup_project_attribute": "rule:admin_api or user_id:{min-user}"`,
		as:     "min", ask: "GET volume /backups/detail?volume_id={spare}", version: "3.56", want: 200, has: bothMakers},
	{say: "for each backup, too", as: "min", ask: "GET volume /backups/{forged}", version: "3.56", want: 200,
		has: `{"backup": {"user_id": "{member-user}", "os-backup-project-attr:project_id": "{project}"}}`},
	{say: "and for its own", as: "min", ask: "GET volume /backups/{genuine}", version: "3.70", want: 200,
		has: `{"backup": {"user_id": "{min-user}", "os-backup-project-attr:project_id": "{project}"}}`},
	{say: "the service is not shown it before 3.56, either", as: "min",
		ask: "GET volume /backups/detail?volume_id={spare}", version: "3.55", want: 200, has: bothOwners, lacks: users},
	{say: "nor whose a backup is before 3.18", as: "min", ask: "GET volume /backups/{forged}", version: "3.17",
		want: 200, lacks: maker},
	{say: "nor anything by a list of names", as: "min", ask: "GET volume /backups?volume_id={spare}", version: "3.56",
		want: 200, has: `{"backups": [{"id": "{genuine}"}, {"id": "{forged}"}]}`, lacks: makers},
	{say: "the tenant is still shown nothing by a list", as: "member",
		ask: "GET volume /backups/detail?volume_id={spare}", version: "3.56", want: 200,
		has: `{"backups": [{"id": "{genuine}"}, {"id": "{forged}"}]}`, lacks: makers},
	{say: "nor of one backup", as: "member", ask: "GET volume /backups/{genuine}", version: "3.56", want: 200,
		lacks: maker},
	{say: "and an admin as before", as: "svc", ask: "GET volume /backups/{forged}", version: "3.56", want: 200,
		has: `{"backup": {"user_id": "{member-user}"}}`},
	{say: "a tenant writes the service's metadata over its own", as: "member", ask: "PUT volume /backups/{forged}",
		version: "3.43", body: `{"backup": {"name": "genuine", "metadata": {"__automated_backup": "True", ` +
			`"__staffeln_run": "{spare}/2"}}}`, want: 200},
	{say: "and is still who made the backup", as: "min", ask: "GET volume /backups/{forged}", version: "3.56",
		want: 200, has: `{"backup": {"name": "genuine", "metadata": {"__staffeln_run": "{spare}/2"}, ` +
			`"user_id": "{member-user}"}}`},
	{say: "a tenant writes over the service's", as: "member", ask: "PUT volume /backups/{genuine}",
		body: `{"backup": {"metadata": {"own": "yes"}}}`, want: 200},
	{say: "which the service has made all the same", as: "min", ask: "GET volume /backups/{genuine}", version: "3.56",
		want: 200, has: `{"backup": {"metadata": {"own": "yes"}, "user_id": "{min-user}"}}`},
	{say: "the rule is held against whoever asks, not against the backup",
		policy: `"backup:backup_project_attribute": "user_id:%(user_id)s and project_id:%(project_id)s"`,
		as:     "member", ask: "GET volume /backups/detail?volume_id={spare}", version: "3.56", want: 200, has: bothMakers},
	{say: "a rule that names one that is not there shows nobody anything",
		policy: `"backup:backup_project_attribute": "rule:not_there"`, as: "svc",
		ask: "GET volume /backups/detail?volume_id={spare}", version: "3.56", want: 200, lacks: makers},
	{say: "without the line the service is shown nothing again", policy: "default", as: "min",
		ask: "GET volume /backups/{genuine}", version: "3.56", want: 200, lacks: maker},
	{say: "the service's backup is deleted", as: "min", ask: "DELETE volume /backups/{genuine}", want: 202},
	{say: "so is the tenant's", as: "min", ask: "DELETE volume /backups/{forged}", want: 202},
	{say: "the one has gone", as: "min", ask: "GET volume /backups/{genuine}", want: 404, until: "gone", via: "deleting"},
	{say: "and the other", as: "min", ask: "GET volume /backups/{forged}", want: 404, until: "gone", via: "deleting"},
	{say: "the quota has both back", as: "min", ask: "GET volume /os-quota-sets/{project}?usage=True", want: 200,
		until: `{"quota_set": {"backups": {"in_use": 2, "limit": 10, "reserved": 0}}}`},

	// Over quota.
	{say: "the quota of backups is what there is", as: "svc", ask: "PUT volume /os-quota-sets/{project}",
		body: `{"quota_set": {"backups": 2}}`, want: 200, has: `{"quota_set": {"backups": 2, "backup_gigabytes": 1000}}`},
	{say: "one backup too many", as: "min", ask: "POST volume /backups", body: `{"backup": {"volume_id": "{spare}"}}`,
		want: 413, says: "BackupLimitExceeded: Maximum number of backups allowed (2) exceeded"},
	{say: "a status that forbids is found before the quota", as: "min", ask: "POST volume /backups",
		body: `{"backup": {"volume_id": "{data}"}}`, want: 400,
		says: "Invalid volume: Backing up an in-use volume must use the force flag."},
	{say: "and the quota before the parent", as: "min", ask: "POST volume /backups",
		body: `{"backup": {"volume_id": "{spare}", "incremental": true}}`, want: 413,
		says: "BackupLimitExceeded: Maximum number of backups allowed (2) exceeded"},
	{say: "a quota of no gigabytes", as: "svc", ask: "PUT volume /os-quota-sets/{project}",
		body: `{"quota_set": {"backups": 2, "backup_gigabytes": 0}}`, want: 200},
	{say: "gigabytes are found before the number", as: "min", ask: "POST volume /backups",
		body: `{"backup": {"volume_id": "{spare}"}}`, want: 413,
		says: "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. " +
			"Requested 1G, quota is 0G and 3G has been consumed."},
	{say: "a quota without end, and of two volumes", as: "svc", ask: "PUT volume /os-quota-sets/{project}",
		body: `{"quota_set": {"backups": -1, "backup_gigabytes": -1, "volumes": 2}}`, want: 200,
		has: `{"quota_set": {"backups": -1}}`},
	{say: "a restore over the quota of volumes", as: "member", ask: "POST volume /backups/{full}/restore",
		body: `{"restore": {"name": "x"}}`, want: 413,
		says: "Maximum number of volumes allowed (2) exceeded for quota 'volumes'."},
	{say: "a volume over the quota of volumes", as: "member", ask: "POST volume /volumes",
		body: `{"volume": {"size": 1}}`, want: 413,
		says: "VolumeLimitExceeded: Maximum number of volumes allowed (2) exceeded for quota 'volumes'."},
	{say: "a quota of two gigabytes", as: "svc", ask: "PUT volume /os-quota-sets/{project}",
		body: `{"quota_set": {"gigabytes": 2, "volumes": 10}}`, want: 200},
	{say: "a restore over the quota of gigabytes", as: "member", ask: "POST volume /backups/{full}/restore",
		body: `{"restore": {"name": "x"}}`, want: 413,
		says: "Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1G, quota is 2G and 2G has " +
			"been consumed."},
	{say: "without a limit there is room", as: "min", ask: "POST volume /backups",
		body: `{"backup": {"volume_id": "{spare}", "name": "more"}}`, want: 202, keep: "more=backup/id"},
	{say: "which is used", as: "min", ask: "GET volume /backups/{more}", want: 200,
		until: `{"backup": {"status": "available"}}`, via: "creating"},
	{say: "the quota is the default again", as: "svc", ask: "DELETE volume /os-quota-sets/{project}", want: 200},
}

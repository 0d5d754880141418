package oslopolicy

// MakersRule is who is shown a backup's project and user.
const MakersRule = "backup:backup_project_attribute"

// DefaultRules are Cinder's. Source: cinder/policies/base.py and backups.py.
var DefaultRules = map[string]Check{
	"admin_or_owner": anyOf{generic{"is_admin", "True"}, generic{"project_id", "%(project_id)s"}},
	"admin_api":      generic{"is_admin", "True"},
	"backup:delete":  ruleCheck("admin_or_owner"),
	"backup:update":  ruleCheck("admin_or_owner"),
	MakersRule:       ruleCheck("admin_api"),
}

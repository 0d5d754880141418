// Package config reads the settings from the environment.
//
// Everything that is wrong is complained of at once, and nothing is guessed: see
// [Load]. docs/settings.md is made from this file, and a test keeps the two equal.
package config

import (
	"maps"
	"slices"
	"strings"
	"time"

	_ "time/tzdata" // an image made from scratch has no zones

	"staffeln/functions/backup"
)

// Prefix is what the name of every variable begins with.
const Prefix = "STAFFELN_"

// Config is the settings, parsed. The comment of a field is its description in
// docs/settings.md. Tags: env is the variable without [Prefix], envDefault its
// default, unit what a value looks like, min and max the bounds of a number or a
// duration, oneof the words allowed, secret that values are masked in complaints.
type Config struct {
	// How often a volume is backed up: a period counted from midnight by the wall clock, a time of day, or cron's five fields.
	Period backup.Schedule `env:"BACKUP_PERIOD" envDefault:"24h" unit:"period from 1s such as 24h or 7d, daily@HH:MM, or cron fields such as 30 2 * * 1-5"`
	// The zone whose wall clock the period, the blackouts, retention and the digests go by.
	TimeZone Zone `env:"TIME_ZONE" envDefault:"UTC" unit:"IANA name such as Europe/Berlin"`
	// The starts of a slot are spread over this much time, by a hash of the volume's id; never over more than half of the period. 0 starts all at once.
	SpreadWindow time.Duration `env:"SPREAD_WINDOW" envDefault:"1h" unit:"duration" min:"0s" max:"168h"`

	// The server metadata key, and the server tag, that opts a server in. Its value is yes, true, on, 1 or the name of a class; as a tag, the key alone or KEY:CLASS.
	FilterTag string `env:"VOLUME_FILTER_TAG" envDefault:"backup" unit:"metadata key"`
	// The volume metadata key that leaves a volume out, with any value but no, false, off or 0.
	SkipTag string `env:"VOLUME_SKIP_TAG" envDefault:"skip-volume-backup" unit:"metadata key"`
	// The server metadata key with which a tenant sets a backup period of the server's own.
	ScheduleKey string `env:"SCHEDULE_KEY" envDefault:"backup-schedule" unit:"metadata key"`
	// The server metadata key with which a tenant sets a retention time of the server's own.
	RetentionKey string `env:"RETENTION_KEY" envDefault:"backup-retention" unit:"metadata key"`
	// Whether tenants may set those two at all.
	Overrides bool `env:"OVERRIDES" envDefault:"true" unit:"true or false"`
	// How frequent a backup period may be that a tenant sets.
	OverrideMinPeriod time.Duration `env:"OVERRIDE_MIN_PERIOD" envDefault:"1h" unit:"duration" min:"1s" max:"168h"`
	// How rare a backup period may be that a tenant sets, by the longest time between two slots. 0 is no bound.
	OverrideMaxPeriod time.Duration `env:"OVERRIDE_MAX_PERIOD" envDefault:"0" unit:"duration" min:"0s" max:"8784h"`
	// How short a retention time may be that a tenant sets. 0 is no bound.
	OverrideMinRetention backup.Age `env:"OVERRIDE_MIN_RETENTION" envDefault:"0" unit:"0, or a time written like the retention time"`
	// How many of their newest restore points the volumes of a server keep at least whose tenant has set either, whatever their age: the archive rule last, on top of the others.
	OverrideMinKept int `env:"OVERRIDE_MIN_KEPT" envDefault:"0" unit:"restore points" min:"0" max:"100000"`
	// How long a change waits that takes a server or a volume out of what is protected, or makes it protected otherwise, from the moment it was seen: time for its owner to notice that it was somebody else. 0 is not at all.
	Lock backup.Age `env:"LOCK" envDefault:"0" unit:"0, or a time written like the retention time"`
	// Whether the owner is told of such a change at once, by a mail of its own.
	LockMail bool `env:"LOCK_MAIL" envDefault:"false" unit:"true or false"`
	// How many volumes of a project are protected at most, the oldest first. 0 is no limit.
	VolumeLimit int `env:"VOLUME_LIMIT" envDefault:"0" unit:"volumes per project" min:"0"`
	// Limits for single projects, before the one above. 0 is no limit.
	VolumeLimits Limits `env:"VOLUME_LIMITS" unit:"PROJECT=NUMBER,... by id or name"`
	// If set, only these projects are protected.
	IncludeProjects List `env:"INCLUDE_PROJECTS" unit:"ids or names, by commas"`
	// Projects that are not protected.
	ExcludeProjects List `env:"EXCLUDE_PROJECTS" unit:"ids or names, by commas"`
	// If set, only the projects of these domains are protected.
	IncludeDomains List `env:"INCLUDE_DOMAINS" unit:"ids or names, by commas"`
	// Domains whose projects are not protected.
	ExcludeDomains List `env:"EXCLUDE_DOMAINS" unit:"ids or names, by commas"`

	// How long a backup is kept. It is frozen into the backup when it is made.
	Retention backup.Age `env:"RETENTION_TIME" envDefault:"30d" unit:"<n>y<n>mon<n>w<n>d<n>h<n>min<n>s such as 2w3d"`
	// Restore points kept whatever their age, with restic's meaning. Frozen into the backup like the retention time.
	ArchiveRules backup.Rules `env:"ARCHIVE_RULES" envDefault:"none" unit:"none, or some of last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=3, by blanks; unlimited is all"`
	// How long the newest restore point of a volume is kept after the volume has gone. 0 is as long as its frozen retention says, like the others.
	OrphanRetention backup.Age `env:"ORPHAN_RETENTION" envDefault:"0" unit:"0, or a time written like the retention time"`
	// The backup container or pool for the first restore point of each month or year, made as a full backup. none, as empty, is none.
	ArchiveContainer string `env:"ARCHIVE_CONTAINER" unit:"name, or none"`
	// Whether that is the first of each month or of each year.
	ArchiveEvery string `env:"ARCHIVE_EVERY" envDefault:"month" unit:"month or year" oneof:"month year"`
	// The brake: at most this part of a project's chains may go at once, and of the cloud's; when more would, nothing goes until the operator releases it. 100 is no brake.
	BrakePercent int `env:"BRAKE_PERCENT" envDefault:"50" unit:"percent" min:"1" max:"100"`
	// With fewer removals than this the brake of a project is not asked; the cloud's not with fewer than twice as many.
	BrakeFrom int `env:"BRAKE_FROM" envDefault:"10" unit:"backups" min:"1"`
	// How many incremental backups follow a full one. 0 makes all of them full.
	Depth int `env:"FULL_BACKUP_DEPTH" envDefault:"6" unit:"backups" min:"0" max:"1000"`
	// A chain older than this gets no more incrementals: the next backup is full. 0 is no limit.
	ChainAge backup.Age `env:"CHAIN_AGE" envDefault:"0" unit:"0, or a time written like the retention time"`
	// The backup container or pool to ask Cinder for; empty is Cinder's own default.
	Container string `env:"BACKUP_CONTAINER" unit:"name"`
	// The name of a backup. {VOLUME_NAME} is the volume's id where it has no name; {VOLUME_ID}, {SERVER_NAME} and {BACKUP_DATE} (20261122T020000Z) may be used, too.
	NameTemplate string `env:"NAME_TEMPLATE" envDefault:"{VOLUME_NAME}-{BACKUP_DATE}" unit:"text with placeholders"`
	// When nothing starts, by the wall clock of the time zone. none is no blackout.
	Blackout backup.Blackouts `env:"BLACKOUT" unit:"[DAY|DAY-DAY,...] HH:MM-HH:MM, several parted by semicolons"`

	// How many backups are under way at once in the whole cloud. 0 is ten for each cinder-backup service that is up.
	MaxRunning int `env:"MAX_RUNNING" envDefault:"0" unit:"backups" min:"0"`
	// How many of one project. 0 is half of the whole cloud's.
	MaxRunningPerProject int `env:"MAX_RUNNING_PER_PROJECT" envDefault:"0" unit:"backups" min:"0"`
	// How many of volumes of one volume backend. 0 is no limit.
	MaxRunningPerBackend int `env:"MAX_RUNNING_PER_BACKEND" envDefault:"0" unit:"backups" min:"0"`
	// A backup that has not ended this long after its start, and DEADLINE_PER_GIB for its size on top, has failed.
	DeadlineBase time.Duration `env:"DEADLINE_BASE" envDefault:"1h" unit:"duration" min:"1m"`
	// What a volume's size adds to that.
	DeadlinePerGiB time.Duration `env:"DEADLINE_PER_GIB" envDefault:"1m" unit:"duration per GiB" min:"0s"`

	// How many requests all processes together send to OpenStack in a second.
	APIRate int `env:"API_RATE" envDefault:"50" unit:"requests per second" min:"1"`
	// How long to wait for an answer of OpenStack's.
	APITimeout time.Duration `env:"API_TIMEOUT" envDefault:"60s" unit:"duration" min:"1s"`
	// Whether lists are taken of all projects at once, which needs the admin role, or project by project, which needs member in each; auto finds out.
	Rights string `env:"RIGHTS" envDefault:"auto" unit:"auto, admin or projects" oneof:"auto admin projects"`

	// How often the ledger is compared with all servers and volumes: what no notification told is found after this time.
	ReconcilePeriod time.Duration `env:"RECONCILE_PERIOD" envDefault:"10m" unit:"duration, whole seconds" min:"10s" max:"24h"`
	// How often it is compared with all backups.
	BackupsPeriod time.Duration `env:"BACKUPS_PERIOD" envDefault:"6h" unit:"duration, whole seconds" min:"1m" max:"168h"`
	// Into how many parts the work is split. All processes must have the same; to change it, stop all of them and empty Redis.
	Shards int `env:"SHARDS" envDefault:"16" unit:"shards" min:"1" max:"1024"`

	// When a period of the digests ends: what became of a project's backups in it is told then.
	ReportPeriod backup.Schedule `env:"REPORT_PERIOD" envDefault:"daily@06:00" unit:"period from 1s such as 24h or 7d, daily@HH:MM, or cron fields such as 0 6 * * 1"`
	// If set, all digests go to these.
	ReportRecipients Addresses `env:"REPORT_RECIPIENTS" unit:"e-mail addresses, by commas"`
	// If set, and REPORT_RECIPIENTS is not, a project's digest goes to {name of the project}@ this. Where neither is set, it goes to the members of the project.
	ReportDomain string `env:"REPORT_DOMAIN" unit:"domain such as projects.example.org"`
	// Whether each of several people gets a mail of his own, or all of them one mail as blind copies.
	ReportAddressing string `env:"REPORT_ADDRESSING" envDefault:"each" unit:"each or blind" oneof:"each blind"`
	// Who is told of errors, once in a period. Empty is nobody.
	ReportOperators Addresses `env:"REPORT_OPERATORS" unit:"e-mail addresses, by commas"`
	// Where the operator's own templates of the digest are, instead of those built in.
	Templates string `env:"TEMPLATES" unit:"path of a directory"`

	// How mail is sent: the next way is tried where one fails for good. log writes it into the log only.
	MailChannels List `env:"MAIL_CHANNELS" envDefault:"log" unit:"resend, smtp and log, by commas"`
	// Who mail is from. Needed for resend and smtp.
	MailFrom string `env:"MAIL_FROM" unit:"e-mail address, or NAME <ADDRESS>"`
	// Where answers go; empty is back to MAIL_FROM.
	MailReplyTo string `env:"MAIL_REPLY_TO" unit:"e-mail address, or NAME <ADDRESS>"`
	// The key of Resend's API. Needed for resend.
	ResendAPIKey Secret `env:"RESEND_API_KEY" unit:"API key" secret:"true"`
	// Where that API is; empty is the public one.
	ResendURL URL `env:"RESEND_URL" unit:"http:// or https:// URL" secret:"true"`
	// A file with the certificates to trust for it, instead of the system's.
	ResendCA string `env:"RESEND_CA" unit:"path of a PEM file"`
	// The mail server. Needed for smtp.
	SMTPHost string `env:"SMTP_HOST" unit:"name or address"`
	// Its port. With tls it is often 465, with none 25.
	SMTPPort int `env:"SMTP_PORT" envDefault:"587" unit:"port" min:"1" max:"65535"`
	// How the connection is encrypted: starttls does not go on without it, tls is from the first byte, none not at all, not even the login.
	SMTPSecurity string `env:"SMTP_TLS" envDefault:"starttls" unit:"starttls, tls or none" oneof:"starttls tls none"`
	// Who logs in there. Empty is no login.
	SMTPUser string `env:"SMTP_USER" unit:"name"`
	// With this password.
	SMTPPassword Secret `env:"SMTP_PASSWORD" unit:"password" secret:"true"`
	// A file with the certificates to trust for the mail server, instead of the system's.
	SMTPCA string `env:"SMTP_CA" unit:"path of a PEM file"`
	// The certificate to show the mail server, where it asks for one; read again when it changes.
	SMTPCert string `env:"SMTP_CERT" unit:"path of a PEM file"`
	// Its key.
	SMTPKey string `env:"SMTP_KEY" unit:"path of a PEM file"`
	// Whether its certificate goes unchecked.
	SMTPInsecure bool `env:"SMTP_INSECURE" envDefault:"false" unit:"true or false"`

	// Where the ledger is: redis://[user:password@]host[:port][/db], redis+cluster://[user:password@]host,host or redis+sentinel://master[:password]@sentinel,sentinel[/db], with rediss for TLS. Empty is one inside the process, which a restart empties: for one process only.
	RedisURL URL `env:"REDIS_URL" unit:"redis URL" secret:"true"`
	// A file with the certificates to trust for it, instead of the system's.
	RedisCA string `env:"REDIS_CA" unit:"path of a PEM file"`
	// The certificate to show it, where it asks for one; read again when it changes.
	RedisCert string `env:"REDIS_CERT" unit:"path of a PEM file"`
	// Its key.
	RedisKey string `env:"REDIS_KEY" unit:"path of a PEM file"`
	// Whether its certificate goes unchecked.
	RedisInsecure bool `env:"REDIS_INSECURE" envDefault:"false" unit:"true or false"`

	// The brokers that carry notifications: one for each service or cell that has its own. Empty is none: all is found by reconciling.
	AMQPURLs URLs `env:"AMQP_URLS" unit:"amqp:// or amqps:// URLs, by commas" secret:"true"`
	// The exchanges to bind to, where they exist. Cinder's is openstack unless its control_exchange says otherwise.
	AMQPExchanges List `env:"AMQP_EXCHANGES" envDefault:"nova,cinder,openstack" unit:"names, by commas"`
	// The notification topics, each bound as TOPIC.*.
	AMQPTopics List `env:"AMQP_TOPICS" envDefault:"notifications,versioned_notifications" unit:"names, by commas"`
	// The queue of our own, beside those of other consumers.
	AMQPQueue string `env:"AMQP_QUEUE" envDefault:"staffeln" unit:"name"`
	// How many messages the queue holds; above it the oldest go.
	AMQPMaxLength int `env:"AMQP_MAX_LENGTH" envDefault:"100000" unit:"messages" min:"1"`
	// A file with the certificates to trust for the brokers, instead of the system's.
	AMQPCA string `env:"AMQP_CA" unit:"path of a PEM file"`
	// The certificate to show them, where they ask for one; read again when it changes.
	AMQPCert string `env:"AMQP_CERT" unit:"path of a PEM file"`
	// Its key.
	AMQPKey string `env:"AMQP_KEY" unit:"path of a PEM file"`
	// Whether their certificates go unchecked.
	AMQPInsecure bool `env:"AMQP_INSECURE" envDefault:"false" unit:"true or false"`

	// Where events, the policy check and health are served.
	Listen string `env:"LISTEN" envDefault:"127.0.0.1:8808" unit:"HOST:PORT"`
	// The certificate that LISTEN is served with, the ones that vouch for it behind it. Empty is without TLS.
	TLSCert string `env:"TLS_CERT" unit:"path of a PEM file"`
	// Its key.
	TLSKey string `env:"TLS_KEY" unit:"path of a PEM file"`
	// A file with the authorities of those who may ask there. Who shows no certificate of theirs is told of health and readiness alone.
	TLSClientCA string `env:"TLS_CLIENT_CA" unit:"path of a PEM file"`
	// The roles that may delete and change automated backups.
	PolicyRoles List `env:"POLICY_ROLES" envDefault:"admin,service" unit:"names, by commas"`
	// Users that may do so besides the service's own, and whose backups count as automated, too.
	PolicyUsers List `env:"POLICY_USERS" unit:"ids, by commas"`
	// What an operator shows to be told why a backup is protected. Empty is that nobody is told.
	OperatorToken Secret `env:"OPERATOR_TOKEN" unit:"at least 16 characters" secret:"true"`
	// Where /metrics is served.
	MetricsListen string `env:"METRICS_LISTEN" envDefault:"127.0.0.1:9464" unit:"HOST:PORT, or off"`
	// The certificate that it is served with. Empty is without TLS.
	MetricsCert string `env:"METRICS_CERT" unit:"path of a PEM file"`
	// Its key.
	MetricsKey string `env:"METRICS_KEY" unit:"path of a PEM file"`
	// A file with the authorities of those who may ask there. Nobody else is answered.
	MetricsClientCA string `env:"METRICS_CLIENT_CA" unit:"path of a PEM file"`
	// How log lines are written.
	LogFormat string `env:"LOG_FORMAT" envDefault:"text" unit:"text or json" oneof:"text json"`
	// The least important lines that are still written.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info" unit:"debug, info, warn or error" oneof:"debug info warn error"`
	// The function that a container serves.
	Function string `env:"FUNCTION" unit:"name of a function"`
	// Where the functions are, {function} standing for the name. Empty runs them in this process.
	FunctionURL URL `env:"FUNCTION_URL" unit:"http:// or https:// URL with {function}" secret:"true"`
	// A file with the certificates to trust there, instead of the system's.
	FunctionCA string `env:"FUNCTION_CA" unit:"path of a PEM file"`
	// The certificate to show there, where one is asked for; read again when it changes.
	FunctionCert string `env:"FUNCTION_CERT" unit:"path of a PEM file"`
	// Its key.
	FunctionKey string `env:"FUNCTION_KEY" unit:"path of a PEM file"`
	// Whether the certificate there goes unchecked.
	FunctionInsecure bool `env:"FUNCTION_INSECURE" envDefault:"false" unit:"true or false"`
	// How long what is under way may go on when the process is told to stop.
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT" envDefault:"30s" unit:"duration" min:"0s" max:"1h"`

	// Classes are the named policies, by lower-case name; what a class does not set
	// is as in [Config.General].
	Classes map[string]Class `env:"-"`
}

// A Class is a named policy that servers choose by "backup=NAME". The comments
// are for docs/settings.md, as with [Config].
type Class struct {
	// The class's own BACKUP_PERIOD.
	Period backup.Schedule `env:"PERIOD" of:"BACKUP_PERIOD"`
	// The class's own TIME_ZONE.
	TimeZone Zone `env:"TIME_ZONE" of:"TIME_ZONE"`
	// The class's own RETENTION_TIME.
	Retention backup.Age `env:"RETENTION_TIME" of:"RETENTION_TIME"`
	// The class's own ARCHIVE_RULES.
	ArchiveRules backup.Rules `env:"ARCHIVE_RULES" of:"ARCHIVE_RULES"`
	// The class's own ARCHIVE_CONTAINER.
	ArchiveContainer string `env:"ARCHIVE_CONTAINER" of:"ARCHIVE_CONTAINER"`
	// The class's own ARCHIVE_EVERY.
	ArchiveEvery string `env:"ARCHIVE_EVERY" of:"ARCHIVE_EVERY" unit:"month or year" oneof:"month year"`
	// The class's own FULL_BACKUP_DEPTH.
	Depth int `env:"FULL_BACKUP_DEPTH" of:"FULL_BACKUP_DEPTH" min:"0" max:"1000"`
	// The class's own CHAIN_AGE.
	ChainAge backup.Age `env:"CHAIN_AGE" of:"CHAIN_AGE"`
	// The class's own BACKUP_CONTAINER.
	Container string `env:"CONTAINER" of:"BACKUP_CONTAINER"`
	// The class's own LOCK.
	Lock backup.Age `env:"LOCK" of:"LOCK"`
	// The class's own BLACKOUT.
	Blackout backup.Blackouts `env:"BLACKOUT" of:"BLACKOUT"`
}

// General is the policy of a server that opts in with a plain yes, and what the
// classes start from. Its Period is in its TimeZone.
func (c Config) General() Class {
	return Class{
		Period: c.Period, TimeZone: c.TimeZone,
		Retention: c.Retention, Depth: c.Depth, ChainAge: c.ChainAge,
		ArchiveRules: c.ArchiveRules, ArchiveContainer: c.ArchiveContainer, ArchiveEvery: c.ArchiveEvery,
		Container: c.Container, Blackout: c.Blackout, Lock: c.Lock,
	}
}

// Archive is where the first restore point of a month or year goes.
func (c Class) Archive() backup.Archive {
	if c.ArchiveContainer == "" || strings.EqualFold(c.ArchiveContainer, None) {
		return backup.Archive{}
	}
	return backup.Archive{Container: c.ArchiveContainer, Every: backup.Span(c.ArchiveEvery)}
}

// None is the ARCHIVE_CONTAINER of a class without, where the general one is set.
const None = "none"

// ClassNames are the names of the classes, sorted.
func (c Config) ClassNames() []string { return slices.Sorted(maps.Keys(c.Classes)) }

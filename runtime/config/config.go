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
// docs/settings.md. Tags: env is the variable without [Prefix], envDefault its default, unit
// what a value looks like, min and max the bounds of a number or a duration, oneof the words
// allowed, secret that values are masked in complaints, prefix what the variables of a struct
// begin with, and group the heading above this field and all that follow it.
type Config struct {
	// Where the ledger is: redis://[user:password@]host[:port][/db],
	// redis+cluster://[user:password@]host,host or
	// redis+sentinel://master[:password]@sentinel,sentinel[/db]; rediss for TLS. Empty is a Redis
	// inside the process: for one process only, and a restart empties it.
	RedisURL URL `env:"REDIS_URL" unit:"redis URL" secret:"true" group:"What everybody sets"`
	// The brokers that carry notifications: one for each service or cell with a broker of its own.
	// Empty is no notifications: reconcile finds every change, later.
	AMQPURLs URLs `env:"AMQP_URLS" unit:"amqp:// or amqps:// URLs, by commas" secret:"true"`
	// Where events, the policy check, health and readiness are served. Cinder must reach it.
	Listen string `env:"LISTEN" envDefault:"127.0.0.1:8808" unit:"HOST:PORT"`
	// The zone of the wall clock for schedules, blackouts, retention and digests.
	TimeZone Zone `env:"TIME_ZONE" envDefault:"UTC" unit:"IANA name such as Europe/Berlin"`
	// How often a volume is backed up: a period of at least 1s that is counted from midnight, a
	// time of day, or cron's five fields.
	Period backup.Schedule `env:"BACKUP_PERIOD" envDefault:"24h" unit:"24h, 7d, daily@HH:MM, or cron: 30 2 * * 1-5"`
	// How long a backup is kept. The time in force when a backup is made is frozen into it.
	Retention backup.Age `env:"RETENTION_TIME" envDefault:"30d" unit:"<n>y<n>mon<n>w<n>d<n>h<n>min<n>s such as 2w3d"`
	// How mail is sent. When one channel refuses a letter for good, the next is tried. log only
	// writes letters into the log.
	MailChannels List `env:"MAIL_CHANNELS" envDefault:"log" unit:"resend, smtp and log, by commas"`
	// The sender of mail. resend and smtp need it.
	MailFrom string `env:"MAIL_FROM" unit:"ADDRESS, or NAME <ADDRESS>"`
	// The mail server. smtp needs it.
	SMTPHost string `env:"SMTP_HOST" unit:"name or address"`
	// The user for the mail server. Empty is no login.
	SMTPUser string `env:"SMTP_USER" unit:"name"`
	// The password of that user.
	SMTPPassword Secret `env:"SMTP_PASSWORD" unit:"password" secret:"true"`
	// These addresses get the digests of all projects. Empty sends each digest to the owners of
	// its project.
	ReportRecipients Addresses `env:"REPORT_RECIPIENTS" unit:"e-mail addresses, by commas"`
	// Who gets the operators' digest, which is sent when there is something to mend. Empty is
	// nobody.
	ReportOperators Addresses `env:"REPORT_OPERATORS" unit:"e-mail addresses, by commas"`

	// The server metadata key, and the server tag, that opts a server in. The value is yes, true,
	// on, 1 or the name of a class. As a tag, it is the key alone or KEY:CLASS.
	FilterTag string `env:"VOLUME_FILTER_TAG" envDefault:"backup" unit:"metadata key" group:"What is protected"`
	// The volume metadata key that leaves a volume out, unless its value is no, false, off or 0.
	SkipTag string `env:"VOLUME_SKIP_TAG" envDefault:"skip-volume-backup" unit:"metadata key"`
	// Only these projects are protected. Empty is all.
	IncludeProjects List `env:"INCLUDE_PROJECTS" unit:"ids or names, by commas"`
	// These projects are not protected.
	ExcludeProjects List `env:"EXCLUDE_PROJECTS" unit:"ids or names, by commas"`
	// Only projects of these domains are protected. Empty is all.
	IncludeDomains List `env:"INCLUDE_DOMAINS" unit:"ids or names, by commas"`
	// Projects of these domains are not protected.
	ExcludeDomains List `env:"EXCLUDE_DOMAINS" unit:"ids or names, by commas"`
	// How many volumes of a project are protected at most; the oldest come first. 0 is no limit.
	VolumeLimit int `env:"VOLUME_LIMIT" envDefault:"0" unit:"volumes per project" min:"0"`
	// Limits for single projects, in place of VOLUME_LIMIT. 0 is no limit.
	VolumeLimits Limits `env:"VOLUME_LIMITS" unit:"PROJECT=NUMBER,... by id or name"`

	// Whether tenants may set a backup period and a retention time for a server.
	Overrides bool `env:"OVERRIDES" envDefault:"true" unit:"true or false" group:"What tenants may set"`
	// The server metadata key for a tenant's backup period.
	ScheduleKey string `env:"SCHEDULE_KEY" envDefault:"backup-schedule" unit:"metadata key"`
	// The server metadata key for a tenant's retention time.
	RetentionKey string `env:"RETENTION_KEY" envDefault:"backup-retention" unit:"metadata key"`
	// The shortest backup period that a tenant may set.
	OverrideMinPeriod time.Duration `env:"OVERRIDE_MIN_PERIOD" envDefault:"1h" unit:"duration" min:"1s" max:"168h"`
	// The longest backup period that a tenant may set; the longest time between two slots counts.
	// 0 is no limit.
	OverrideMaxPeriod time.Duration `env:"OVERRIDE_MAX_PERIOD" envDefault:"0" unit:"duration" min:"0s" max:"8784h"`
	// The shortest retention time that a tenant may set. 0 is no limit.
	OverrideMinRetention backup.Age `env:"OVERRIDE_MIN_RETENTION" envDefault:"0" unit:"0, or a time like 2w3d"`
	// If the tenant has set a period or a retention time for a server, each of its volumes keeps
	// at least this many restore points, the newest, whatever their age. It is the archive rule
	// last, beside the class's own.
	OverrideMinKept int `env:"OVERRIDE_MIN_KEPT" envDefault:"0" unit:"restore points" min:"0" max:"100000"`
	// How long a change waits that ends or alters the protection of a server or volume, from when
	// it was first seen. The owner has that time to notice a stranger's change. 0 is no lock. A
	// class without a lock of its own has this one.
	Lock backup.Age `env:"LOCK" envDefault:"0" unit:"0, or a time like 2w3d"`
	// Whether the owner gets a mail about such a change at once.
	LockMail bool `env:"LOCK_MAIL" envDefault:"false" unit:"true or false"`

	// The starts of a slot are spread over this time, at most half of the period, by a hash of the
	// volume's id. 0 starts all at once.
	SpreadWindow time.Duration `env:"SPREAD_WINDOW" envDefault:"1h" unit:"duration" min:"0s" max:"168h" group:"When"`
	// No backup starts in these times. A whole day is `sun 00:00-24:00`. none is no blackout.
	Blackout backup.Blackouts `env:"BLACKOUT" unit:"[DAY|DAY-DAY,...] HH:MM-HH:MM, by semicolons"`
	// How often the ledger is compared with all servers and volumes. A change that no notification
	// told of is found after this time at the latest.
	ReconcilePeriod time.Duration `env:"RECONCILE_PERIOD" envDefault:"10m" unit:"whole seconds" min:"10s" max:"24h"`
	// How often the ledger is compared with all backups.
	BackupsPeriod time.Duration `env:"BACKUPS_PERIOD" envDefault:"6h" unit:"whole seconds" min:"1m" max:"168h"`

	// How many incremental backups follow a full one. 0 makes every backup a full one.
	Depth int `env:"FULL_BACKUP_DEPTH" envDefault:"6" unit:"backups" min:"0" max:"1000" group:"Making and keeping"`
	// When the full backup of a chain is older than this, the next backup is full. 0 is no limit.
	ChainAge backup.Age `env:"CHAIN_AGE" envDefault:"0" unit:"0, or a time like 2w3d"`
	// The backup container or pool in Cinder. Empty is Cinder's default.
	Container string `env:"BACKUP_CONTAINER" unit:"name"`
	// The name of a backup. {VOLUME_NAME} is the id of a volume without a name. {VOLUME_ID},
	// {SERVER_NAME} and {BACKUP_DATE} (20261122T020000Z) are the other placeholders.
	NameTemplate string `env:"NAME_TEMPLATE" envDefault:"{VOLUME_NAME}-{BACKUP_DATE}" unit:"text with placeholders"`
	// Restore points that are kept whatever their age, as restic keeps them: some of last=3
	// hourly=24 daily=7 weekly=4 monthly=12 yearly=3. unlimited in place of a number keeps all.
	// Frozen into each backup like the retention time.
	ArchiveRules backup.Rules `env:"ARCHIVE_RULES" envDefault:"none" unit:"none, or NAME=NUMBER by blanks"`
	// The backup container or pool for the first restore point of each month or year, which is a
	// full backup. Empty, or none, is no archive.
	ArchiveContainer string `env:"ARCHIVE_CONTAINER" unit:"name, or none"`
	// Whether the archive gets the first of each month or of each year.
	ArchiveEvery string `env:"ARCHIVE_EVERY" envDefault:"month" unit:"month or year" oneof:"month year"`
	// How long the newest restore point of a volume is kept after the volume is gone. 0 is the
	// retention that is frozen into it, as for all others.
	OrphanRetention backup.Age `env:"ORPHAN_RETENTION" envDefault:"0" unit:"0, or a time like 2w3d"`
	// If more than this part of a project's chains would be removed at once, nothing is removed
	// until an operator releases the brake. The same holds for the whole cloud. 100 is no brake.
	BrakePercent int `env:"BRAKE_PERCENT" envDefault:"50" unit:"percent" min:"1" max:"100"`
	// The brake of a project applies from this many removals; the brake of the cloud from twice as
	// many.
	BrakeFrom int `env:"BRAKE_FROM" envDefault:"10" unit:"backups" min:"1"`

	// The class's own value, for servers that choose the class. PERIOD takes the place of
	// BACKUP_PERIOD, CONTAINER that of BACKUP_CONTAINER; all others have the name of the general
	// setting.
	Classes map[string]Class `env:"-" group:"Classes"`

	// How many backups run at once in the whole cloud. 0 is ten for each cinder-backup service
	// that is up.
	MaxRunning int `env:"MAX_RUNNING" envDefault:"0" unit:"backups" min:"0" group:"How much at a time"`
	// How many backups of one project run at once. 0 is half of the cloud's.
	MaxRunningPerProject int `env:"MAX_RUNNING_PER_PROJECT" envDefault:"0" unit:"backups" min:"0"`
	// How many backups of volumes on one volume backend run at once. 0 is no limit.
	MaxRunningPerBackend int `env:"MAX_RUNNING_PER_BACKEND" envDefault:"0" unit:"backups" min:"0"`
	// A backup has failed when it runs longer than this plus DEADLINE_PER_GIB for each GiB of its
	// volume.
	DeadlineBase time.Duration `env:"DEADLINE_BASE" envDefault:"1h" unit:"duration" min:"1m"`
	// What each GiB of the volume adds to the deadline.
	DeadlinePerGiB time.Duration `env:"DEADLINE_PER_GIB" envDefault:"1m" unit:"duration per GiB" min:"0s"`
	// How many requests a second all processes together send to OpenStack.
	APIRate int `env:"API_RATE" envDefault:"50" unit:"requests per second" min:"1"`
	// How long to wait for an answer of OpenStack.
	APITimeout time.Duration `env:"API_TIMEOUT" envDefault:"60s" unit:"duration" min:"1s"`
	// Into how many parts the work is split. All processes must have the same number. To change
	// it, stop all of them and empty Redis.
	Shards int `env:"SHARDS" envDefault:"16" unit:"shards" min:"1" max:"1000"`

	// When a period of the digests ends. The digest then tells what happened in it.
	ReportPeriod backup.Schedule `env:"REPORT_PERIOD" envDefault:"daily@06:00" unit:"like BACKUP_PERIOD" group:"Digests"`
	// A project's digest goes to {name of the project}@ this domain, if REPORT_RECIPIENTS is not
	// set. If neither is set, it goes to the members of the project.
	ReportDomain string `env:"REPORT_DOMAIN" unit:"domain such as projects.example.org"`
	// each sends a mail to every recipient; blind sends one mail with all of them as blind copies.
	ReportAddressing string `env:"REPORT_ADDRESSING" envDefault:"each" unit:"each or blind" oneof:"each blind"`
	// The directory of your own templates for the digest. Empty is the built-in ones.
	Templates string `env:"TEMPLATES" unit:"path of a directory"`
	// Where answers to mail go. Empty is MAIL_FROM.
	MailReplyTo string `env:"MAIL_REPLY_TO" unit:"ADDRESS, or NAME <ADDRESS>"`
	// The port of the mail server. It is often 465 with tls, and 25 with none.
	SMTPPort int `env:"SMTP_PORT" envDefault:"587" unit:"port" min:"1" max:"65535"`
	// How the connection to the mail server is encrypted. starttls sends nothing until it is; tls
	// is encrypted from the first byte; none encrypts nothing, not even the password.
	SMTPSecurity string `env:"SMTP_TLS" envDefault:"starttls" unit:"starttls, tls or none" oneof:"starttls tls none"`
	// The key for Resend. resend needs it.
	ResendAPIKey Secret `env:"RESEND_API_KEY" unit:"API key" secret:"true"`
	// Where Resend is reached, through a gateway of your own for example. Empty is its public
	// address.
	ResendURL URL `env:"RESEND_URL" unit:"http:// or https:// URL" secret:"true"`
	// A file with the authorities to trust for Resend, in place of the system's.
	ResendCA string `env:"RESEND_CA" unit:"path of a PEM file"`

	// The queue that Staffeln makes for itself. Processes with the same name share the work.
	AMQPQueue string `env:"AMQP_QUEUE" envDefault:"staffeln" unit:"name" group:"Connections"`
	// The exchanges of the notifications. Those that do not exist yet are awaited. Cinder's is
	// openstack unless its control_exchange says otherwise.
	AMQPExchanges List `env:"AMQP_EXCHANGES" envDefault:"nova,cinder,openstack" unit:"names, by commas"`
	// The topics of the notifications. Each is bound as TOPIC.*.
	AMQPTopics List `env:"AMQP_TOPICS" envDefault:"notifications,versioned_notifications" unit:"names, by commas"`
	// How many messages the queue holds. Above that, the oldest are dropped.
	AMQPMaxLength int `env:"AMQP_MAX_LENGTH" envDefault:"100000" unit:"messages" min:"1"`
	// How OpenStack's lists are read: admin reads all projects at once, which needs the role
	// admin; projects reads them one by one, which needs member in each. auto finds out which is
	// possible.
	Rights string `env:"RIGHTS" envDefault:"auto" unit:"auto, admin or projects" oneof:"auto admin projects"`
	// Where the functions are served, if they run in containers; {function} stands for the name.
	// Empty runs them in this process.
	FunctionURL URL       `env:"FUNCTION_URL" unit:"http:// or https:// URL with {function}" secret:"true"`
	RedisTLS    TLSClient `env:"-" prefix:"REDIS_"`
	AMQPTLS     TLSClient `env:"-" prefix:"AMQP_"`
	SMTPTLS     TLSClient `env:"-" prefix:"SMTP_"`
	FunctionTLS TLSClient `env:"-" prefix:"FUNCTION_"`

	ListenTLS  TLSServer `env:"-" prefix:"TLS_" group:"What is served"`
	MetricsTLS TLSServer `env:"-" prefix:"METRICS_"`
	// Where /metrics is served.
	MetricsListen string `env:"METRICS_LISTEN" envDefault:"127.0.0.1:9464" unit:"HOST:PORT, or off"`
	// Users with one of these roles may delete and change automated backups.
	PolicyRoles List `env:"POLICY_ROLES" envDefault:"admin,service" unit:"names, by commas"`
	// Users, besides the service's own, that may delete and change automated backups. Backups that
	// they made count as automated.
	PolicyUsers List `env:"POLICY_USERS" unit:"ids, by commas"`
	// The function that this container serves.
	Function string `env:"FUNCTION" unit:"name of a function"`
	// How long a process that is told to stop may finish its work.
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT" envDefault:"30s" unit:"duration" min:"0s" max:"1h"`

	// How log lines are written.
	LogFormat string `env:"LOG_FORMAT" envDefault:"text" unit:"text or json" oneof:"text json" group:"Logs"`
	// The least important lines that are written.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info" unit:"debug, info, warn or error" oneof:"debug info warn error"`
}

// A Class is a named policy that servers choose by "backup=NAME". [Config.Classes] has them by
// lower-case name; what a class does not set is as in [Config.General]. The tag of names the
// general setting whose place a field takes.
type Class struct {
	Period           backup.Schedule  `env:"PERIOD" of:"BACKUP_PERIOD"`
	TimeZone         Zone             `env:"TIME_ZONE" of:"TIME_ZONE"`
	Retention        backup.Age       `env:"RETENTION_TIME" of:"RETENTION_TIME"`
	ArchiveRules     backup.Rules     `env:"ARCHIVE_RULES" of:"ARCHIVE_RULES"`
	ArchiveContainer string           `env:"ARCHIVE_CONTAINER" of:"ARCHIVE_CONTAINER"`
	ArchiveEvery     string           `env:"ARCHIVE_EVERY" of:"ARCHIVE_EVERY" unit:"month or year" oneof:"month year"`
	Depth            int              `env:"FULL_BACKUP_DEPTH" of:"FULL_BACKUP_DEPTH" min:"0" max:"1000"`
	ChainAge         backup.Age       `env:"CHAIN_AGE" of:"CHAIN_AGE"`
	Container        string           `env:"CONTAINER" of:"BACKUP_CONTAINER"`
	Lock             backup.Age       `env:"LOCK" of:"LOCK"`
	Blackout         backup.Blackouts `env:"BLACKOUT" of:"BLACKOUT"`
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

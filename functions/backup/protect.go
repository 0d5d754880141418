package backup

import (
	"slices"
	"strings"
)

// The policies that the check answers for, by Cinder's names. The last two are
// only admins' unless an operator opens them, and then they are ways around the
// first: force_delete deletes, and reset_status makes a backup under way deletable.
const (
	RuleDelete      = "backup:delete"
	RuleUpdate      = "backup:update"
	RuleForceDelete = "volume_extension:backup_admin_actions:force_delete"
	RuleResetStatus = "volume_extension:backup_admin_actions:reset_status"
)

// A Plea is somebody's wish to delete or change a backup, as Cinder's policy check
// tells of it.
type Plea struct {
	// Rule is the policy asked about; "" where the asker did not say, as old releases of
	// oslo.policy do not.
	Rule string
	// Backup is the id of the backup.
	Backup string
	// Shown says that the plea holds the backup itself: its Creator and its Mark.
	Shown bool
	// Creator is the id of the user who made the backup; "" where that is not told.
	Creator string
	// Mark is the value of the backup's metadata [MetaAutomated]; "" for none.
	Mark string
	// User is the id of the user who asks; Roles are the user's in the project of the
	// token. Both are empty where the plea does not tell who asks.
	User  string
	Roles []string
}

// Guards say whose the automated backups are.
type Guards struct {
	// Users are the ids of the service's own users: what they make is protected, and
	// they may do as they like.
	Users Makers
	// Whole says that Users holds the service's own user, which Keystone tells. Only
	// then does a maker who is not in Users say that the service did not make a backup.
	Whole bool
	// Roles may do as they like, too. Capitals do not count, as with oslo.policy.
	Roles []string
}

// A Testimony is what somebody else says of a backup that is asked about.
type Testimony string

// The testimonies.
const (
	// Unheard has not been asked yet.
	Unheard Testimony = ""
	// Silent could not answer, or not in time.
	Silent Testimony = "silent"
	// Automated says that the backup is one of the service's.
	Automated Testimony = "automated"
	// Manual says that it is not.
	Manual Testimony = "manual"
	// Unknown has no such backup: Cinder's word only, since the ledger knows but ours.
	Unknown Testimony = "unknown"
)

// Testimonies are what the others have said so far.
type Testimonies struct{ Ledger, Cinder Testimony }

// A Source is where a ruling comes from, and where there is more to be heard.
type Source string

// The sources.
const (
	FromPlea   Source = "body"
	FromLedger Source = "ledger"
	FromCinder Source = "cinder"
	// FromNobody is that of a refusal that rests on no knowledge.
	FromNobody Source = "none"
)

// Grounds are the reason of a ruling in one word, for metrics.
type Grounds string

// The grounds of rulings; the first four let through.
const (
	BecauseService  Grounds = "service"  // the service's own user asks
	BecauseOperator Grounds = "operator" // somebody with an operator's role asks
	BecauseManual   Grounds = "manual"   // the backup is its owner's own
	BecauseForged   Grounds = "forged"   // the same, though its metadata say that it is automated
	BecauseMarked   Grounds = "marked"   // its metadata says that it is automated
	BecauseCreator  Grounds = "creator"  // the service made it
	BecauseKnown    Grounds = "known"    // the ledger or Cinder says that it is automated
	BecauseRule     Grounds = "rule"     // the policy asked about is none of ours
	BecauseMissing  Grounds = "missing"  // Cinder has no such backup
	BecauseDoubt    Grounds = "doubt"    // nobody could say
)

// A Ruling on a plea.
type Ruling struct {
	// Hear is who is to be asked before there is a ruling; "" where there is one.
	Hear Source
	// Allow lets the wish be carried out.
	Allow   bool
	Source  Source
	Because Grounds
	// Why is the reason in words, for whoever asked. It tells nothing of the cloud.
	Why string
}

// Protect rules on a plea: allowed is what the service and operators wish, and
// what anybody wishes of a backup that is not automated. A backup is automated
// where the service made it, or the ledger knows it, or its metadata says so and the
// plea does not tell that somebody else made it. In doubt the answer is no.
//
// A ruling that says whom to hear is none yet: ask again with the testimony.
func (g Guards) Protect(p Plea, t Testimonies) Ruling {
	mark := p.Shown && marked(p.Mark)
	made := p.Creator != "" && slices.Contains(g.Users, p.Creator)
	switch {
	case !ruleOfOurs(p.Rule):
		return Ruling{Source: FromPlea, Because: BecauseRule, Why: "this check is for the deletion and the update of backups, and for nothing else"}
	case p.User != "" && slices.Contains(g.Users, p.User):
		return Ruling{Allow: true, Source: FromPlea, Because: BecauseService, Why: "the backup service asks"}
	case slices.ContainsFunc(p.Roles, g.operator):
		return Ruling{Allow: true, Source: FromPlea, Because: BecauseOperator, Why: "an operator asks"}
	case mark && (made || p.Creator == "" || !g.Whole):
		return refusal(FromPlea, BecauseMarked)
	case made:
		return refusal(FromPlea, BecauseCreator)
	}
	// One with our mark that somebody else made is the tenant's to delete, once the ledger
	// does not know it: the service may have had another user.
	manual := func(s Source) Ruling {
		if mark {
			return Ruling{Allow: true, Source: s, Because: BecauseForged, Why: "the backup service did not make the backup"}
		}
		return Ruling{Allow: true, Source: s, Because: BecauseManual, Why: "the backup is not an automated one"}
	}
	switch t.Ledger {
	case Unheard:
		return Ruling{Hear: FromLedger}
	case Automated:
		return refusal(FromLedger, BecauseKnown)
	case Manual:
		if p.Shown {
			return manual(FromLedger)
		}
	default:
		switch {
		case mark:
			return refusal(FromPlea, BecauseMarked)
		case p.Shown:
			return manual(FromPlea)
		}
	}
	switch t.Cinder {
	case Unheard:
		return Ruling{Hear: FromCinder}
	case Automated:
		return refusal(FromCinder, BecauseKnown)
	case Manual:
		return manual(FromCinder)
	case Unknown:
		return Ruling{Source: FromCinder, Because: BecauseMissing, Why: "there is no such backup"}
	}
	return Ruling{Source: FromNobody, Because: BecauseDoubt,
		Why: "the request does not tell whether the backup is an automated one, and nobody who would know can be asked now"}
}

func refusal(s Source, because Grounds) Ruling {
	return Ruling{Source: s, Because: because,
		Why: "the backup is an automated one: only the backup service removes or changes it, when its retention has ended"}
}

func ruleOfOurs(rule string) bool {
	switch rule {
	case "", RuleDelete, RuleUpdate, RuleForceDelete, RuleResetStatus:
		return true
	}
	return false
}

func (g Guards) operator(role string) bool {
	return slices.ContainsFunc(g.Roles, func(r string) bool { return r != "" && strings.EqualFold(r, role) })
}

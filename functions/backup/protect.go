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

// A CheckRequest is a question of Cinder's policy check: may this user delete or change this
// backup?
type CheckRequest struct {
	// Rule is the policy asked about; "" from old releases of oslo.policy, which do not say.
	Rule string
	// Backup is the id of the backup.
	Backup string
	// Shown says that the request holds the backup itself: its Creator and its Mark.
	Shown bool
	// Creator is the id of the user who made the backup; "" if the request does not say.
	Creator string
	// Mark is the value of the backup's metadata [MetaAutomated]; "" for none.
	Mark string
	// User is the id of the user who asks; Roles are the user's roles in the token's project.
	// Both are empty if the request does not say who asks.
	User  string
	Roles []string
}

// DeleteByOwner is the question that Cinder asks when a member of the backup's project wants to
// delete it.
func (b CinderBackup) DeleteByOwner() CheckRequest {
	return CheckRequest{Rule: RuleDelete, Backup: b.ID, Shown: true, Creator: b.Maker, Mark: b.Metadata[MetaAutomated]}
}

// CheckRules say who may delete and change automated backups, and who makes them.
type CheckRules struct {
	// Users are the ids of the service's own users: the backups that they make are protected,
	// and everything is allowed to them.
	Users Makers
	// Complete says that Users holds the service's current user, whose id Keystone tells. Only
	// then is a backup by somebody else proven not to be the service's.
	Complete bool
	// Roles are allowed everything too. Case does not matter, as in oslo.policy.
	Roles []string
}

// A Lookup is what the ledger or Cinder says of a backup.
type Lookup string

// The results of a [Lookup].
const (
	// NotAsked: there was no look-up yet.
	NotAsked Lookup = ""
	// NoAnswer: there was no answer, or not in time.
	NoAnswer Lookup = "no answer"
	// Automated: the service made the backup.
	Automated Lookup = "automated"
	// Manual: the service did not make it.
	Manual Lookup = "manual"
	// Unknown: there is no such backup. Only Cinder can say so, because the ledger knows
	// nothing but automated backups.
	Unknown Lookup = "unknown"
)

// CheckEvidence is what the look-ups have shown so far.
type CheckEvidence struct{ Ledger, Cinder Lookup }

// A Source is where the knowledge for a decision comes from.
type Source string

// The sources.
const (
	FromBody   Source = "body"
	FromLedger Source = "ledger"
	FromCinder Source = "cinder"
	// FromNobody is the source of a refusal without any knowledge.
	FromNobody Source = "none"
)

// A Reason is the reason of a decision in one word, for metrics.
type Reason string

// The reasons; the first four allow the request.
const (
	BecauseService  Reason = "service"  // the service's own user asks
	BecauseOperator Reason = "operator" // a user with an operator's role asks
	BecauseManual   Reason = "manual"   // the backup is the project's own
	BecauseForged   Reason = "forged"   // the same, but its metadata claim that it is automated
	BecauseMarked   Reason = "marked"   // its metadata say that it is automated
	BecauseCreator  Reason = "creator"  // the service made it
	BecauseKnown    Reason = "known"    // the ledger or Cinder says that it is automated
	BecauseRule     Reason = "rule"     // the check does not answer for this policy
	BecauseMissing  Reason = "missing"  // Cinder has no such backup
	BecauseDoubt    Reason = "doubt"    // nobody could say
)

// A CheckDecision is the answer to a [CheckRequest].
type CheckDecision struct {
	// Ask is the source to look the backup up in before a decision is possible; "" if this is
	// the decision.
	Ask     Source
	Allow   bool
	Source  Source
	Because Reason
	// Why is the reason in words, for the answer. It reveals nothing about the cloud.
	Why string
}

// Decide answers a request. The service and operators may do everything, and everybody may
// delete and change a backup that is not automated. A backup is automated if the service made
// it, or the ledger knows it, or its metadata say so and nothing proves that somebody else made
// it. In doubt the answer is no.
//
// If the result has Ask, look the backup up there and call Decide again with the evidence.
func (g CheckRules) Decide(p CheckRequest, t CheckEvidence) CheckDecision {
	mark := p.Shown && marked(p.Mark)
	made := p.Creator != "" && slices.Contains(g.Users, p.Creator)
	switch {
	case !answeredRule(p.Rule):
		return CheckDecision{Source: FromBody, Because: BecauseRule,
			Why: "this check is for the deletion and the update of backups, and for nothing else"}
	case p.User != "" && slices.Contains(g.Users, p.User):
		return CheckDecision{Allow: true, Source: FromBody, Because: BecauseService, Why: "the backup service asks"}
	case slices.ContainsFunc(p.Roles, g.operator):
		return CheckDecision{Allow: true, Source: FromBody, Because: BecauseOperator, Why: "an operator asks"}
	case mark && (made || p.Creator == "" || !g.Complete):
		return refusal(FromBody, BecauseMarked)
	case made:
		return refusal(FromBody, BecauseCreator)
	}
	// The tenant may delete a backup with our mark that somebody else made, but only if the ledger
	// does not know it: the service may have had another user before.
	manual := func(s Source) CheckDecision {
		if mark {
			return CheckDecision{Allow: true, Source: s, Because: BecauseForged,
				Why: "the backup service did not make the backup"}
		}
		return CheckDecision{Allow: true, Source: s, Because: BecauseManual, Why: "the backup is not an automated one"}
	}
	switch t.Ledger {
	case NotAsked:
		return CheckDecision{Ask: FromLedger}
	case Automated:
		return refusal(FromLedger, BecauseKnown)
	case Manual:
		if p.Shown {
			return manual(FromLedger)
		}
	default:
		switch {
		case mark:
			return refusal(FromBody, BecauseMarked)
		case p.Shown:
			return manual(FromBody)
		}
	}
	switch t.Cinder {
	case NotAsked:
		return CheckDecision{Ask: FromCinder}
	case Automated:
		return refusal(FromCinder, BecauseKnown)
	case Manual:
		return manual(FromCinder)
	case Unknown:
		return CheckDecision{Source: FromCinder, Because: BecauseMissing, Why: "there is no such backup"}
	}
	return CheckDecision{Source: FromNobody, Because: BecauseDoubt,
		Why: "the request does not say whether the backup is an automated one, and neither the ledger nor Cinder can be asked now"}
}

func refusal(s Source, because Reason) CheckDecision {
	return CheckDecision{Source: s, Because: because,
		Why: "the backup is an automated one: only the backup service removes or changes it, when its retention has ended"}
}

func answeredRule(rule string) bool {
	switch rule {
	case "", RuleDelete, RuleUpdate, RuleForceDelete, RuleResetStatus:
		return true
	}
	return false
}

func (g CheckRules) operator(role string) bool {
	return slices.ContainsFunc(g.Roles, func(r string) bool { return r != "" && strings.EqualFold(r, role) })
}

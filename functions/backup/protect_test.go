package backup

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	theService = "27baad14275d44d3bb3d76e511ad5724"
	aTenant    = "afc9ff6708a04854a2d8da6aebabea92"
)

var theRules = CheckRules{Users: []string{theService, "11112222333344445555666677778888"},
	Roles: []string{"admin", "service"}, Complete: true}

func TestProtect(t *testing.T) {
	const backup = "8bd2b617-daa5-4aa3-b199-e5d6bad361fb"
	automated := CheckRequest{Rule: RuleDelete, Backup: backup, Shown: true, Creator: theService, Mark: "True",
		User: aTenant, Roles: []string{"member", "reader"}}
	own := CheckRequest{Rule: RuleDelete, Backup: backup, Shown: true, Creator: aTenant, User: aTenant,
		Roles: []string{"member", "reader"}}
	bare := CheckRequest{Backup: backup}
	with := func(p CheckRequest, change func(*CheckRequest)) CheckRequest { change(&p); return p }
	for _, tc := range []struct {
		name    string
		request CheckRequest
		t       CheckEvidence
		want    string
	}{
		{"a tenant and an automated backup", automated, CheckEvidence{}, "deny body marked"},
		{"a tenant cannot change one either", with(automated, func(p *CheckRequest) { p.Rule = RuleUpdate }),
			CheckEvidence{}, "deny body marked"},
		{"nor force it", with(automated, func(p *CheckRequest) { p.Rule = RuleForceDelete }), CheckEvidence{},
			"deny body marked"},
		{"nor make it deletable", with(automated, func(p *CheckRequest) { p.Rule = RuleResetStatus }), CheckEvidence{},
			"deny body marked"},
		{"the mark counts in any case", with(automated, func(p *CheckRequest) { p.Mark = "tRUE"; p.Creator = "" }),
			CheckEvidence{}, "deny body marked"},
		{"the service made it, whatever became of the mark", with(automated, func(p *CheckRequest) { p.Mark = "" }),
			CheckEvidence{}, "deny body creator"},
		{"a user of the operator's list made it", with(own, func(p *CheckRequest) { p.Creator = theRules.Users[1] }),
			CheckEvidence{}, "deny body creator"},
		{"the ledger knows it, whatever became of the mark", own, CheckEvidence{Ledger: Automated}, "deny ledger known"},
		{"a tenant's own with our mark is first asked of the ledger", with(own, func(p *CheckRequest) { p.Mark = "True" }),
			CheckEvidence{}, "ask ledger"},
		{"which the ledger does not know: the tenant may delete what he forged",
			with(own, func(p *CheckRequest) { p.Mark = "True" }), CheckEvidence{Ledger: Manual}, "allow ledger forged"},
		{"which the ledger knows: the service had another user", with(own, func(p *CheckRequest) { p.Mark = "True" }),
			CheckEvidence{Ledger: Automated}, "deny ledger known"},
		{"which nobody can be asked about", with(own, func(p *CheckRequest) { p.Mark = "True" }),
			CheckEvidence{Ledger: NoAnswer}, "deny body marked"},
		{"the service", with(automated, func(p *CheckRequest) { p.User = theService }), CheckEvidence{},
			"allow body service"},
		{"an admin", with(automated, func(p *CheckRequest) { p.Roles = []string{"reader", "Admin"} }), CheckEvidence{},
			"allow body operator"},
		{"nobody is not the service", with(automated, func(p *CheckRequest) { p.User = ""; p.Roles = nil }), CheckEvidence{},
			"deny body marked"},
		{"a tenant's own is first asked of the ledger", own, CheckEvidence{}, "ask ledger"},
		{"a tenant's own", own, CheckEvidence{Ledger: Manual}, "allow ledger manual"},
		{"a tenant's own while the ledger is down", own, CheckEvidence{Ledger: NoAnswer}, "allow body manual"},
		{"a mark that says no", with(own, func(p *CheckRequest) { p.Mark = "False" }), CheckEvidence{Ledger: Manual},
			"allow ledger manual"},
		{"an old oslo.policy does not name the rule", with(own, func(p *CheckRequest) { p.Rule = "" }),
			CheckEvidence{Ledger: Manual}, "allow ledger manual"},
		{"a rule that is none of ours", with(own, func(p *CheckRequest) { p.Rule = "backup:restore" }),
			CheckEvidence{Ledger: Manual}, "deny body rule"},
		{"nor is it an admin's", with(own, func(p *CheckRequest) { p.Rule = "volume:delete"; p.Roles = []string{"admin"} }),
			CheckEvidence{}, "deny body rule"},
		{"a body that does not show the backup", bare, CheckEvidence{}, "ask ledger"},
		{"which the ledger knows", bare, CheckEvidence{Ledger: Automated}, "deny ledger known"},
		{"which the ledger does not know", bare, CheckEvidence{Ledger: Manual}, "ask cinder"},
		{"which Cinder says is automated", bare, CheckEvidence{Ledger: Manual, Cinder: Automated}, "deny cinder known"},
		{"which Cinder says is the owner's", bare, CheckEvidence{Ledger: Manual, Cinder: Manual}, "allow cinder manual"},
		{"which Cinder says is the owner's while the ledger is down", bare, CheckEvidence{Ledger: NoAnswer, Cinder: Manual},
			"allow cinder manual"},
		{"which Cinder does not know", bare, CheckEvidence{Ledger: Manual, Cinder: Unknown}, "deny cinder missing"},
		{"which nobody can tell of", bare, CheckEvidence{Ledger: NoAnswer, Cinder: NoAnswer}, "deny none doubt"},
		{"which the ledger does not know and Cinder does not answer", bare, CheckEvidence{Ledger: Manual, Cinder: NoAnswer},
			"deny none doubt"},
		{"an operator need not show it", with(bare, func(p *CheckRequest) { p.Roles = []string{"service"} }),
			CheckEvidence{}, "allow body operator"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := theRules.Decide(tc.request, tc.t)
			if got := inWords(r); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if r.Ask == "" && r.Why == "" {
				t.Error("no reason")
			}
		})
	}
}

func inWords(r CheckDecision) string {
	switch {
	case r.Ask != "":
		return "ask " + string(r.Ask)
	case r.Allow:
		return "allow " + string(r.Source) + " " + string(r.Because)
	}
	return "deny " + string(r.Source) + " " + string(r.Because)
}

func anyRequest(t *rapid.T) CheckRequest {
	user := rapid.SampledFrom([]string{"", aTenant, theService})
	return CheckRequest{
		Rule: rapid.SampledFrom([]string{"", RuleDelete, RuleUpdate, RuleForceDelete, RuleResetStatus,
			"backup:get"}).Draw(t, "rule"),
		Backup:  "8bd2b617-daa5-4aa3-b199-e5d6bad361fb",
		Shown:   rapid.Bool().Draw(t, "shown"),
		Creator: user.Draw(t, "creator"), User: user.Draw(t, "user"),
		Mark:  rapid.SampledFrom([]string{"", "True", "true", "False", "yes"}).Draw(t, "mark"),
		Roles: rapid.SliceOfN(rapid.SampledFrom([]string{"member", "reader", "admin", "SERVICE", ""}), 0, 3).Draw(t, "roles"),
	}
}

var anyLookup = rapid.SampledFrom([]Lookup{NoAnswer, Automated, Manual, Unknown})

// Whatever is asked and whoever answers: there is a ruling after two have been
// heard, and a tenant is never let through to what anybody says is automated.
func TestProtectHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, said := anyRequest(t), CheckEvidence{Ledger: anyLookup.Draw(t, "ledger"), Cinder: anyLookup.Draw(t, "cinder")}
		r := theRules.Decide(p, said)
		if r.Ask != "" || r.Why == "" || r.Because == "" || r.Source == "" {
			t.Fatalf("no ruling: %+v", r)
		}
		passes := p.User == theService || strings.Contains(strings.ToLower(" "+strings.Join(p.Roles, " ")+" "), " admin ") ||
			strings.Contains(strings.ToLower(" "+strings.Join(p.Roles, " ")+" "), " service ")
		automated := p.Shown && strings.EqualFold(p.Mark, "true") && (p.Creator == "" || said.Ledger != Manual) ||
			p.Creator == theService || said.Ledger == Automated ||
			!p.Shown && said.Cinder == Automated
		if r.Allow && automated && !passes {
			t.Fatalf("let through: %+v", r)
		}
		if !r.Allow && passes && r.Because != BecauseRule {
			t.Fatalf("the service is refused: %+v", r)
		}
		// Whoever is not heard cannot make a yes of a no that the body gave.
		if first := theRules.Decide(p, CheckEvidence{}); first.Ask == "" && first != r {
			t.Fatalf("what others say changes what the body says: %+v, %+v", first, r)
		}
	})
}

// A body that shows the backup is decided on alike with the ledger down and with a
// ledger that agrees with it, and Cinder is never asked.
func TestABodyThatShowsTheBackupIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyRequest(t)
		p.Shown = true
		if marked(p.Mark) {
			p.Creator = theService // of what somebody else made, the ledger has to be asked
		}
		down, up := theRules.Decide(p, CheckEvidence{Ledger: NoAnswer}), theRules.Decide(p, CheckEvidence{Ledger: Manual})
		if down.Ask != "" || up.Ask != "" || down.Allow != up.Allow || down.Because != up.Because {
			t.Fatalf("%+v while down, %+v otherwise", down, up)
		}
	})
}

// The check takes the same backups for automated as everybody else does.
func TestTheCheckAndTheRulesAgree(t *testing.T) {
	for _, mark := range []string{"True", "true", "TRUE", "False", "", "1", "yes", " True", "True\n"} {
		for _, maker := range []string{theService, theRules.Users[1], aTenant} {
			one := []CinderBackup{{ID: "b", Maker: maker, Metadata: map[string]string{MetaAutomated: mark}}}
			theRules.Users.Judge(one, Evidence{})
			r := theRules.Decide(CheckRequest{Shown: true, Mark: mark, Creator: maker}, CheckEvidence{Ledger: Manual})
			if one[0].Ours() && r.Allow || maker == aTenant && !r.Allow {
				t.Errorf("%q of %s: allowed %v, origin %s", mark, maker, r.Allow, one[0].Origin)
			}
		}
	}
}

// As long as Keystone has not told who the service's user is, a mark is enough.
func TestProtectBeforeTheServicesUserIsKnown(t *testing.T) {
	g := CheckRules{Users: theRules.Users[1:], Roles: theRules.Roles}
	p := CheckRequest{Shown: true, Backup: "8bd2b617-daa5-4aa3-b199-e5d6bad361fb", Creator: aTenant, Mark: "True",
		User: aTenant}
	same(t, inWords(g.Decide(p, CheckEvidence{Ledger: Manual})), "deny body marked")
}

"""Asks the real oslo.policy what it makes of a policy file of infra/cinder.

Standard input is one JSON object: "folder", where policy.yaml and policy.d are; "release",
a line of Cinder's; "options", of the group oslo_policy; "questions", each with "rule",
"target" and "credentials". Standard output is a JSON list with an answer to each: "yes",
"no", or "error: " and what Cinder would have answered a 500 for.
"""

import json
import sys

from oslo_config import cfg
from oslo_policy import opts, policy

# What Cinder registers itself: cinder/policies/base.py and backups.py of the releases.
NAMED = {
    'context_is_admin': 'role:admin',
    'admin_api': 'is_admin:True or (role:admin and is_admin_project:True)',
    # Still there from Xena on, although to be removed in Yoga.
    'admin_or_owner': 'is_admin:True or (role:admin and is_admin_project:True) or project_id:%(project_id)s',
}
SINCE_XENA = {
    'xena_system_admin_or_project_member': '(role:admin) or (role:member and project_id:%(project_id)s)',
    'xena_system_admin_or_project_reader': '(role:admin) or (role:reader and project_id:%(project_id)s)',
}


def defaults(release):
    """The rules that a policy file of Cinder's is laid over."""
    named = NAMED if release == 'queens' else NAMED | SINCE_XENA
    for name, check in named.items():
        yield policy.RuleDefault(name, check)
    yield policy.DocumentedRuleDefault(
        'backup:backup_project_attribute', 'rule:admin_api', 'who made it', [{'method': 'GET', 'path': '/'}])
    for name in 'backup:delete', 'backup:update':
        if release == 'queens':
            yield policy.DocumentedRuleDefault(
                name, 'rule:admin_or_owner', name, [{'method': 'DELETE', 'path': '/'}])
        else:
            # Unless new defaults are enforced the old one is or'ed to the new one: not,
            # it is to be hoped, to one of a policy file.
            yield policy.DocumentedRuleDefault(
                name, 'rule:xena_system_admin_or_project_member', name, [{'method': 'DELETE', 'path': '/'}],
                deprecated_rule=policy.DeprecatedRule(
                    name, 'rule:admin_or_owner', deprecated_reason='personas', deprecated_since='X'))


def main():
    task = json.load(sys.stdin)
    conf = cfg.ConfigOpts()
    opts.set_defaults(conf, 'policy.yaml')
    conf(['--config-dir', task['folder']])
    for name, value in {'enforce_new_defaults': task['release'] == '2026.2', **task['options']}.items():
        conf.set_override(name, value, 'oslo_policy')

    enforcer = policy.Enforcer(conf)
    enforcer.suppress_deprecation_warnings = True
    enforcer.register_defaults(list(defaults(task['release'])))
    enforcer.load_rules()
    # Cycles, and rules that refer to others that are not there: those deny, with no more than a warning.
    enforcer.check_rules(raise_on_violation=True)

    answers = []
    for question in task['questions']:
        try:
            allowed = enforcer.authorize(question['rule'], question['target'], question['credentials'])
            answers.append('yes' if allowed else 'no')
        except Exception as error:  # Cinder answers a 500 for any
            answers.append('error: ' + type(error).__name__)
    json.dump(answers, sys.stdout)


main()

#!/usr/bin/python3
"""Makes the user backup-role, whose only role is "staffeln", and says its id. Safe to run again.

Usage: role.py PASSWORD   (OS_* of openrc/admin in the environment)
"""
import sys

import openstack

keystone = openstack.connect().identity
role = keystone.find_role('staffeln') or keystone.create_role(name='staffeln')
user = keystone.find_user('backup-role') or keystone.create_user(
    name='backup-role', domain_id='default', password=sys.argv[1])
keystone.put(f'/OS-INHERIT/domains/default/users/{user.id}/roles/{role.id}/inherited_to_projects')
keystone.put(f'/system/users/{user.id}/roles/{role.id}')
print(user.id)

#!/usr/bin/python3
"""Makes the service project, users, roles and endpoints. Safe to run again.

Usage: register.py PASSWORD NAME=TYPE=URL...   (OS_* of openrc/admin in the environment)
"""
import sys

import openstack

REGION = 'RegionOne'
password, endpoints = sys.argv[1], [arg.split('=', 2) for arg in sys.argv[2:]]
keystone = openstack.connect().identity

service_project = (keystone.find_project('service')
                   or keystone.create_project(name='service', domain_id='default'))
roles = [keystone.find_role(name) or keystone.create_role(name=name)
         for name in ('admin', 'service')]

for name in ('placement', 'glance', 'neutron', 'nova', 'cinder', 'backup-svc'):
    user = keystone.find_user(name) or keystone.create_user(
        name=name, domain_id='default', password=password, email=f'{name}@example.test',
        default_project_id=service_project.id)
    for role in roles:
        keystone.assign_project_role_to_user(service_project, user, role)

# backup-svc gets a token for any project of the domain; backup-min has the least rights that do.
def inherit(user, role):
    keystone.put(f'/OS-INHERIT/domains/default/users/{user.id}/roles/{role.id}/inherited_to_projects')


backup_min = keystone.find_user('backup-min') or keystone.create_user(
    name='backup-min', domain_id='default', password=password)
inherit(keystone.find_user('backup-svc'), keystone.find_role('admin'))
inherit(backup_min, keystone.find_role('member'))
keystone.put(f'/system/users/{backup_min.id}/roles/{keystone.find_role("reader").id}')

known = {service.type: service for service in keystone.services()}
have = {(e.service_id, e.interface) for e in keystone.endpoints()}
for name, kind, url in endpoints:
    service = known.get(kind) or keystone.create_service(name=name, type=kind)
    for interface in ('public', 'internal', 'admin'):
        if (service.id, interface) not in have:
            keystone.create_endpoint(service_id=service.id, interface=interface,
                                     region_id=REGION, url=url)

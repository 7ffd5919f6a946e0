"""The gateway to OpenStack: the only code that imports openstacksdk and keystoneauth."""

"""The REST API of Azure Resource Manager for the resource types that amlflow uses."""

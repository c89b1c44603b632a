"""The journal: what a program logs is appended to files of this machine, and sent from there to its workspace.

It stands on its own, on the standard library and what MLflow brings: it is also put into environments and jobs that have no
amlflow, under another package name, so its modules import each other relatively and nothing else of amlflow. It runs on Python
3.8 and MLflow 2.9 upwards.
"""

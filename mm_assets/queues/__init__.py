"""Queues: messages in and out, at AWS or at a server that speaks its language.

What belongs here: SQS, SNS and EventBridge behind two small classes, with their limits and faults
in words. What does not: what a message says (uploads/message.py, predictions/event.py). Uses:
contract.
"""

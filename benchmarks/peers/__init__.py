"""The other sides of comparisons: scripts that ``peer.Peer`` starts, with an interpreter that has what they need."""

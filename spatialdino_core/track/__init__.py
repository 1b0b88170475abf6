"""Link particles over time: costs, assignment, gap closing, events, exports."""

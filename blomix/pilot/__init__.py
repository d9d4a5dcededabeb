"""The small trial before the roll-out: is finetuning worth it on these labels, or more of them?"""

"""What is wrong with results, found in the files that stages left; the report shows it, and
`wsss doctor run` prints it.

Masks of annotators are not opened here: what they tell is in the reports of evaluation.
"""

"""The processes that grade Python code: see `gapjax.verifiers.python_tests`.

```
gapjax ── supervisor ─┬─ checker   runs the tests; its exit status is the verdict
                      └─ init ── answer   runs the code that is graded
```

Checker and answer talk over a socket (`link`), in values (`values`) and in references to objects
that stay where they are (`mirrors`). These modules run in interpreters of their own, without
gapjax, without site-packages and on the standard library alone.
"""

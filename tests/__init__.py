"""A package, because another one of this name, which a library installs beside its own, would come before a mere
folder.
"""

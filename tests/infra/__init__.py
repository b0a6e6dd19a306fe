"""The synthesized templates, read as what AWS will do with them."""

"""Parts of formats that several of them use."""
